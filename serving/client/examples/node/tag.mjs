// Asks TensorFlow Serving over gRPC what is heard in an audio file, and prints the most probable tags.
//
//   npm ci                                              once
//   node tag.mjs song.wav                               16-bit WAV at 16 kHz (signature "wav")
//   node tag.mjs --server host:8500 --label stable song.pcm
//                                                       raw 16-bit little-endian mono at 16 kHz (signature "pcm")
//
// Any other file becomes such a WAV with: ffmpeg -i song.mp3 -ac 1 -ar 16000 -c:a pcm_s16le song.wav
//
// ../../protos is a small part of TF Serving's public .proto files with the same names and numbers; nothing is generated.

import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const PROTOS = fileURLToPath(new URL('../../protos', import.meta.url));
const USAGE = 'usage: node tag.mjs [--server HOST:PORT] [--label LABEL] [--top N] FILE.wav|FILE.pcm';
const OPTIONS = {
  server: { type: 'string', default: 'localhost:8500' },
  model: { type: 'string', default: 'autotag' },
  label: { type: 'string' },
  top: { type: 'string', default: '5' },
  timeout: { type: 'string', default: '60' }, // seconds
};

/** The tags of one file: [{tag, probability}], the most probable first. */
export async function tag(path, { server, model, label, timeout }) {
  const audio = await readFile(path);
  const signature = extname(path).toLowerCase() === '.wav' ? 'wav' : 'pcm';
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
