// Asks TensorFlow Serving over gRPC what is heard in an audio file, and prints the most probable tags.
//
//   npm ci                                              once
//   node tag.mjs song.wav                               16-bit WAV at 16 kHz (signature "wav")
//   node tag.mjs --server host:8500 --label stable song.pcm
//                                                       raw 16-bit little-endian mono at 16 kHz (signature "pcm")
//   node tag.mjs song.mp3                               any other file, where there is ffmpeg, which decodes it
//
// What a file is goes by its first bytes; raw samples have none of their own and are taken by the names *.pcm and *.raw.
//
// ../../protos is a small part of TF Serving's public .proto files with the same names and numbers; nothing is generated.

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const PROTOS = fileURLToPath(new URL('../../protos', import.meta.url));
const USAGE = 'usage: node tag.mjs [--server HOST:PORT] [--label LABEL] [--top N] FILE';
const OPTIONS = {
  server: { type: 'string', default: 'localhost:8500' },
  model: { type: 'string', default: 'autotag' },
  label: { type: 'string' },
  top: { type: 'string', default: '5' },
  timeout: { type: 'string', default: '60' }, // seconds
};

/** What files of other kinds begin with, and where. */
const MAGIC = [[0, 'ID3'], [0, 'OggS'], [0, 'fLaC'], [4, 'ftyp'], [0, '\x1a\x45\xdf\xa3'], [0, 'FORM'], [0, 'RIFF']];

/** The signature that takes a file as it is; undefined where it has to be decoded. */
function signatureOf(path, audio) {
  const begin = audio.subarray(0, 12).toString('latin1');
  if (begin.startsWith('RIFF') && begin.endsWith('WAVE')) return 'wav';
  if (MAGIC.some(([at, bytes]) => begin.startsWith(bytes, at))) return undefined;
  return ['.pcm', '.raw'].includes(extname(path).toLowerCase()) ? 'pcm' : undefined;
}

/** The bytes to send and their signature: ffmpeg decodes what is neither a WAV nor raw samples. */
async function load(path) {
  const audio = await readFile(path);
  const signature = signatureOf(path, audio);
  if (signature) return { signature, audio };
  const input = ['-nostdin', '-v', 'error', '-protocol_whitelist', 'file,pipe', '-i', `file:${path}`, '-map', '0:a:0'];
  const output = ['-ac', '1', '-ar', '16000', '-f', 's16le', 'pipe:1'];
  try {
    const options = { encoding: 'buffer', maxBuffer: 2 ** 28 };
    const { stdout } = await promisify(execFile)('ffmpeg', [...input, ...output], options);
    return { signature: 'pcm', audio: stdout };
  } catch (error) {
    if (error.code === 'ENOENT') {
      throw new Error('it is neither a WAV file nor raw samples (*.pcm): with ffmpeg on PATH it would be decoded');
    }
    throw new Error(`ffmpeg cannot decode it: ${error.stderr?.toString().trim() || error.message}`);
  }
}

/** The tags of one file: [{tag, probability}], the most probable first. */
export async function tag(path, { server, model, label, timeout }) {
  const { signature, audio } = await load(path);
  const definition = await protoLoader.load('tensorflow_serving.proto', { includeDirs: [PROTOS], keepCase: true });
  const { PredictionService } = grpc.loadPackageDefinition(definition).tensorflow.serving;
  const client = new PredictionService(server, grpc.credentials.createInsecure());
  const request = {
    model_spec: { name: model, signature_name: signature, ...(label && { version_label: label }) },
    inputs: { [signature]: { dtype: 'DT_STRING', tensor_shape: { dim: [{ size: 1 }] }, string_val: [audio] } },
    output_filter: ['tags', 'predictions'],
  };
  try {
    const outputs = await predict(client, request, Date.now() + 1000 * timeout);
    const tags = (outputs.tags?.string_val ?? []).map((name) => name.toString('utf8'));
    const probabilities = floats(outputs.predictions);
    if (tags.length === 0 || tags.length !== probabilities.length) {
      throw new Error(`${tags.length} tags and ${probabilities.length} probabilities: not a model of autotag's`);
    }
    return tags
      .map((name, i) => ({ tag: name, probability: probabilities[i] }))
      .sort((a, b) => b.probability - a.probability);
  } finally {
    client.close();
  }
}

function predict(client, request, deadline) {
  return new Promise((resolve, reject) => {
    client.Predict(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer.outputs)));
  });
}

/** A tensor of float32 comes as a list or, from a server told so, as bytes. */
function floats(tensor) {
  const content = tensor?.tensor_content;
  if (!content?.length) return tensor?.float_val ?? [];
  return Array.from({ length: content.length / 4 }, (_, i) => content.readFloatLE(4 * i));
}

async function main() {
  let options;
  try {
    options = parseArgs({ options: OPTIONS, allowPositionals: true });
    if (options.positionals.length !== 1) throw new Error('one file');
  } catch {
    console.error(USAGE);
    return 2;
  }
  const [path] = options.positionals;
  try {
    const tags = await tag(path, options.values);
    for (const { tag: name, probability } of tags.slice(0, Number(options.values.top))) {
      console.log(`${probability.toFixed(3)}  ${name}`);
    }
    return 0;
  } catch (error) {
    console.error(`${options.values.server} did not tag ${path}: ${error.message}`);
    return 1;
  }
}

process.exitCode = await main();
