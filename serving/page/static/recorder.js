// The microphone as a 16-bit WAV file, which needs no decoder beside the server's own.

const LONGEST_SECONDS = 15 * 60;

const REASONS = {
  NotAllowedError: "The browser may not use the microphone: allow it in the address bar, then try again.",
  NotFoundError: "No microphone was found.",
  NotReadableError: "The microphone is in use by another program.",
};

/**
 * Starts to record; `onLevel(seconds, peak)` is told as it goes, `onFull()` once when the longest time is reached. Where
 * `signal` is aborted the microphone is let go, also one that the browser gives only then.
 */
export async function record(onLevel, onFull, signal) {
  if (!navigator.mediaDevices) throw new Error("Browsers give the microphone to pages on localhost and over HTTPS alone.");
  const stream = await navigator.mediaDevices
    .getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } })
    .catch((error) => {
      throw new Error(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    });
  const context = new AudioContext();
  let released = null;
  const release = () => {
    stream.getTracks().forEach((track) => track.stop());
    return (released ??= context.close());
  };
  signal.addEventListener("abort", release);
  try {
    signal.throwIfAborted();
    await context.audioWorklet.addModule("/static/recorder-worklet.js");
    signal.throwIfAborted();
  } catch (error) {
    await release();
    throw error;
  }
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
  const parts = [];
  let [samples, full] = [0, false];
  tap.port.onmessage = ({ data }) => {
    if (full) return;
    parts.push(asPcm(data));
    samples += data.length;
    onLevel(samples / context.sampleRate, data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
    full = samples >= LONGEST_SECONDS * context.sampleRate;
    if (full) onFull();
  };
  context.createMediaStreamSource(stream).connect(tap);
  return {
    /** Ends it and returns the file. */
    async stop() {
      await release();
      return wav(parts, samples, context.sampleRate);
    },
  };
}

const asPcm = (samples) => Int16Array.from(samples, (sample) => Math.round(Math.min(1, Math.max(-1, sample)) * 32767));

/** A WAV file of one channel: RIFF, a format chunk for PCM, the samples. */
function wav(parts, samples, rate) {
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + 2 * samples, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, 2 * samples, true);
  return new Blob([header, ...parts], { type: "audio/wav" });
}
