// Runs on the audio thread: hands every block of the microphone's first channel to the page.
registerProcessor(
  'capture',
  class extends AudioWorkletProcessor {
    process(inputs) {
      const samples = inputs[0]?.[0];
      if (samples) this.port.postMessage(samples.slice());
      return true;
    }
  },
);
