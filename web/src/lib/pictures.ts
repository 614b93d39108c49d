// Pictures on their way to a model that sees: made small enough to send, in a form that every engine opens.

/** The longer side; models look at less. */
const SIDE_MAX = 1536;
/** What fits into a request with a few of its kind. */
const QUALITY = 0.86;
/** As many as the appliance takes with one question. */
export const PICTURES_MAX = 8;

export const isPicture = (file: File): boolean => file.type.startsWith('image/');

/** A picture as a `data:` address; fails where the browser cannot open it. */
export async function shrunk(file: File): Promise<string> {
  const bitmap = await createImageBitmap(file, { imageOrientation: 'from-image' });
  const scale = Math.min(1, SIDE_MAX / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext('2d');
  if (!context) throw new Error('the browser draws no pictures');
  // JPEG knows no transparency: what shows through is paper.
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL('image/jpeg', QUALITY);
}

/** The `data:` address of a picture that the appliance keeps. */
export async function kept(address: string): Promise<string> {
  const picture = await (await fetch(address)).blob();
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(picture);
  });
}
