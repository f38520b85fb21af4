// In the browser's audio thread: hands what the microphone hears to recorder.js, one channel.

class Tap extends AudioWorkletProcessor {
  process([input]) {
    if (input.length) {
      const mono = new Float32Array(input[0].length);
      for (const channel of input) channel.forEach((sample, i) => (mono[i] += sample / input.length));
      this.port.postMessage(mono, [mono.buffer]);
    }
    return true;
  }
}

registerProcessor("tap", Tap);
