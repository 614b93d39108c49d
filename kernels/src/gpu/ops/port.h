// One kernel source for hipRTC and clang (AMD) and NVRTC (NVIDIA). No vendor header is included: everything that
// kernels need from a device has its name here.
#if defined(__AMDGCN__) || defined(__HIPCC_RTC__) || defined(__HIP__)
#define ON_AMD 1
#elif defined(__CUDACC_RTC__) || defined(__CUDACC__)
#define ON_NVIDIA 1
#else
#error "unknown device compiler"
#endif

typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
struct pair_f { float x, y; };
struct pair_u { u32 x, y; };

#if defined(ON_AMD)
#pragma clang fp contract(off)
typedef u32 word4 __attribute__((ext_vector_type(4)));
#define KERNEL(threads) extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(threads, threads))) void
#define DEVICE static __attribute__((device)) inline __attribute__((always_inline))
#define SHARED __attribute__((shared))
#define DYNAMIC_SHARED extern __attribute__((shared))
#define TABLE static __attribute__((device)) const
DEVICE u32 thread_id() { return __builtin_amdgcn_workitem_id_x(); }
DEVICE u32 group_x() { return __builtin_amdgcn_workgroup_id_x(); }
DEVICE u32 group_y() { return __builtin_amdgcn_workgroup_id_y(); }
DEVICE u32 group_z() { return __builtin_amdgcn_workgroup_id_z(); }
DEVICE u32 groups_x() { return *(const u32 __attribute__((address_space(4)))*)__builtin_amdgcn_implicitarg_ptr(); }
// How many there are in z, or 0 where that is not asked: only what may be fetched early depends on it.
DEVICE u32 groups_z() { return 0u; }
// Four unsigned bytes of weights times four signed bytes of activations.
DEVICE i32 dot4(u32 weights, u32 x, i32 sum) { return __builtin_amdgcn_sudot4(false, (i32)weights, true, (i32)x, sum, false); }
// Four signed bytes each.
DEVICE i32 dot4_signed(u32 a, u32 b, i32 sum) { return __builtin_amdgcn_sudot4(true, (i32)a, true, (i32)b, sum, false); }
DEVICE word4 stream(const word4* p) { return __builtin_nontemporal_load(p); }
DEVICE u32 stream(const u32* p) { return __builtin_nontemporal_load(p); }
DEVICE u64 stream(const u64* p) { return __builtin_nontemporal_load(p); }
// The same number in all lanes, said to the compiler: what it indexes is then read once a wave.
DEVICE u32 uniform(u32 x) { return __builtin_amdgcn_readfirstlane(x); }
// Instructions before stay before, those after after.
DEVICE void in_order() { __builtin_amdgcn_sched_barrier(0); }
// What the kernel ahead in the queue wrote may be read from here on; the one behind may begin to fetch.
DEVICE void after_previous() {}
DEVICE void let_next() {}
// Another lane's number, among 32.
DEVICE u32 shuffle(u32 x, u32 lane) { return __builtin_amdgcn_ds_bpermute((i32)((thread_id() & ~31u & 63u) | lane) << 2, (i32)x); }
// Copies of 16 bytes to shared memory; where a device has an engine for it they go on while the lane computes.
DEVICE void copy_ahead(void* to, const void* from) { *(word4*)to = *(const word4*)from; }
DEVICE void end_copies() {}
template <u32 LEFT> DEVICE void wait_copies() {}
DEVICE void barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
DEVICE float half_value(u32 bits) { unsigned short h = (unsigned short)bits; _Float16 v; __builtin_memcpy(&v, &h, 2); return (float)v; }
DEVICE u32 half_bits(float x) { _Float16 v = (_Float16)x; unsigned short h; __builtin_memcpy(&h, &v, 2); return h; }
DEVICE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float root(float x) { return __builtin_sqrtf(x); }
DEVICE float truncated(float x) { return __builtin_truncf(x); }
DEVICE u32 as_bits(float x) { u32 b; __builtin_memcpy(&b, &x, 4); return b; }
DEVICE float as_float(u32 b) { float x; __builtin_memcpy(&x, &b, 4); return x; }
#else
// What one kernel reads another has just written, perhaps while this one was starting: no load may go through the cache for
// memory that never changes, which is what this word would ask for.
#define __restrict__
struct __align__(16) word4 { u32 x, y, z, w; };
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
#define DYNAMIC_SHARED extern __shared__
#define TABLE static __device__ const
DEVICE u32 thread_id() { return threadIdx.x; }
DEVICE u32 group_x() { return blockIdx.x; }
DEVICE u32 group_y() { return blockIdx.y; }
DEVICE u32 group_z() { return blockIdx.z; }
DEVICE u32 groups_x() { return gridDim.x; }
DEVICE u32 groups_z() { return gridDim.z; }
DEVICE i32 dot4(u32 weights, u32 x, i32 sum) { i32 d; asm("dp4a.u32.s32 %0,%1,%2,%3;" : "=r"(d) : "r"(weights), "r"(x), "r"(sum)); return d; }
DEVICE i32 dot4_signed(u32 a, u32 b, i32 sum) { i32 d; asm("dp4a.s32.s32 %0,%1,%2,%3;" : "=r"(d) : "r"(a), "r"(b), "r"(sum)); return d; }
DEVICE word4 stream(const word4* p) {
  word4 r;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p));
  return r;
}
DEVICE u32 stream(const u32* p) { u32 r; asm volatile("ld.global.nc.L1::no_allocate.u32 %0,[%1];" : "=r"(r) : "l"(p)); return r; }
DEVICE u64 stream(const u64* p) { u64 r; asm volatile("ld.global.nc.L1::no_allocate.u64 %0,[%1];" : "=l"(r) : "l"(p)); return r; }
DEVICE u32 uniform(u32 x) { return x; }
DEVICE void in_order() {}
DEVICE void after_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
DEVICE void let_next() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
DEVICE u32 shuffle(u32 x, u32 lane) { return __shfl_sync(0xffffffffu, x, lane); }
DEVICE void barrier() { __syncthreads(); }
DEVICE void wave_barrier() { __syncwarp(); }
// A ring of stages in shared memory that the copy engine fills: a word that counts arriving bytes for each stage.
DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
DEVICE void ring_open(u64* stage) {
  asm volatile("mbarrier.init.shared.b64 [%0], 1;" :: "r"(shared_address(stage)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
DEVICE void ring_expect(u64* stage, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" :: "r"(shared_address(stage)), "r"(bytes) : "memory");
}
DEVICE void ring_fetch(u64* stage, void* to, const void* from, u32 bytes) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               :: "r"(shared_address(to)), "l"(from), "r"(bytes), "r"(shared_address(stage)) : "memory");
}
DEVICE void ring_wait(u64* stage, u32 parity) {
  asm volatile("{ .reg .pred done; again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1; @!done bra again; }"
               :: "r"(shared_address(stage)), "r"(parity) : "memory");
}
DEVICE void copy_ahead(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(shared_address(to)), "l"(from) : "memory");
}
DEVICE void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <u32 LEFT> DEVICE void wait_copies() { asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory"); }
// 16 rows of 32 columns times 8 tokens; a lane has 8 bytes of two rows (4 of each half) and 8 of a token.
DEVICE void multiply_tile(i32* sums, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
DEVICE float half_value(u32 bits) { float v; asm("{ .reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h; }" : "=f"(v) : "r"(bits)); return v; }
DEVICE u32 half_bits(float x) { u32 b; asm("{ .reg .b16 h; cvt.rn.f16.f32 h, %1; cvt.u32.u16 %0, h; }" : "=r"(b) : "f"(x)); return b; }
DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE float root(float x) { return __fsqrt_rn(x); }
DEVICE float truncated(float x) { return truncf(x); }
DEVICE u32 as_bits(float x) { return __float_as_uint(x); }
DEVICE float as_float(u32 b) { return __uint_as_float(b); }
#endif

DEVICE void begin() {
  let_next();
  after_previous();
}
DEVICE u32 shuffle_xor(u32 x, u32 mask) { return shuffle(x, (thread_id() & 31u) ^ mask); }
DEVICE float shuffle_f(float x, u32 lane) { return as_float(shuffle(as_bits(x), lane)); }
DEVICE float larger(float a, float b) { return a > b ? a : b; }
DEVICE u32 larger_u(u32 a, u32 b) { return a > b ? a : b; }
DEVICE u32 smaller_u(u32 a, u32 b) { return a < b ? a : b; }
DEVICE float magnitude_of(float x) { return as_float(as_bits(x) & 0x7fffffffu); }
// Nearest integer, ties to even, for magnitudes below 2^22.
DEVICE i32 nearest(float x) { return (i32)as_bits(x + 12582912.0f) - 0x4b400000; }

// e^x by the polynomial of cpu/elementwise.rs.
DEVICE float expo(float y) {
  float x = y < 88.0f ? y : 88.0f;
  float clamped = x > -87.0f ? x : -87.0f;
  float shifted = clamped * 1.44269504088896341f + 12582912.0f;
  float n = shifted - 12582912.0f;
  float r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.38888890e-3f;
  p = p * r + 8.33333400e-3f;
  p = p * r + 4.16666680e-2f;
  p = p * r + 0.16666667f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  return x < -87.0f ? 0.0f : p * as_float((as_bits(shifted) << 23) + 0x3f800000u);
}
