// recmesh.v1.ModelService in Node.js:  node server.js DATASET [--address 127.0.0.1:0]

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import grpc from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import { HealthImplementation } from 'grpc-health-check';

import { readDataset } from './dataset.js';
import { NobodyWaits, SpecialtyPopularity } from './model.js';

const NAME = 'specialty-popularity';
const OWNER = 'recommendations';
const SERVICE = 'recmesh.v1.ModelService';
// The released contract, with everything that it imports; its fields keep their names.
const CONTRACT = new URL('../../protos/released.binpb', import.meta.url);
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const STOP_GRACE_MS = 2000;

class InvalidRequest extends Error {}

function checked(request) {
  const { user } = request;
  if (!user?.user_id) throw new InvalidRequest('user.user_id: must be given');
  const lengths = [user.history_item_ids, user.history_event_types, user.history_times_unix_s];
  if (new Set(lengths.map((column) => column.length)).size !== 1) {
    throw new InvalidRequest('user.history_item_ids: not aligned with its event types and times');
  }
  return user;
}

/** A method of the service from a function of the request and of whether anybody still waits. */
function unary(answer) {
  return async (call, respond) => {
    const isLate = () => new Date(call.getDeadline()) <= new Date();
    const isOver = () => call.cancelled || isLate();
    try {
      respond(null, await answer(call.request, isOver));
    } catch (error) {
      if (error instanceof NobodyWaits) {
        const { CANCELLED, DEADLINE_EXCEEDED } = grpc.status;
        const code = isLate() ? DEADLINE_EXCEEDED : CANCELLED;
        respond({ code, details: 'nobody waits for it' });
      } else if (error instanceof InvalidRequest) {
        respond({ code: grpc.status.INVALID_ARGUMENT, details: error.message });
      } else {
        // A defect is ours to read, not the caller's.
        console.error(error);
        respond({ code: grpc.status.INTERNAL, details: 'internal error' });
      }
    }
  };
}

function methods(model) {
  return {
    Describe: unary(async () => ({
      name: NAME,
      version: model.version,
      capabilities: ['CAPABILITY_RETRIEVE', 'CAPABILITY_SCORE'],
      owner: OWNER,
    })),
    Retrieve: unary(async (request, isOver) => {
      const user = checked(request);
      if (request.limit < 1) throw new InvalidRequest('limit: must be at least 1');
      const found = await model.retrieve(
        user.specialties,
        user.history_item_ids,
        request.limit,
        isOver,
      );
      return {
        item_ids: found.map(({ itemId }) => itemId),
        scores: found.map(({ score }) => score),
        version: model.version,
      };
    }),
    Score: unary(async (request, isOver) => {
      const user = checked(request);
      const opinions = await model.score(user.specialties, request.item_ids, isOver);
      return {
        scores: opinions.map((opinion) => opinion ?? 0),
        missing: opinions.flatMap((opinion, position) => (opinion === undefined ? [position] : [])),
        version: model.version,
      };
    }),
    // Embed is not offered: grpc-js answers UNIMPLEMENTED for what is missing here.
  };
}

const { values, positionals } = parseArgs({
  options: { address: { type: 'string', default: '127.0.0.1:0' } },
  allowPositionals: true,
});
if (positionals.length !== 1) {
  console.error('node server.js DATASET [--address HOST:PORT]; DATASET is $RECMESH_HOME/dataset');
  process.exit(2);
}

const model = new SpecialtyPopularity(await readDataset(positionals[0]));
const contract = loadFileDescriptorSetFromBuffer(readFileSync(CONTRACT), {
  arrays: true,
  defaults: true,
  enums: String,
  longs: Number,
});
const server = new grpc.Server({
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  // A taken port must be an error, not a second listener that steals half the calls.
  'grpc.so_reuseport': 0,
});
server.addService(contract[SERVICE], methods(model));
const health = new HealthImplementation({ '': 'SERVING', [SERVICE]: 'SERVING' });
health.addToServer(server);

server.bindAsync(values.address, grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) {
    console.error(`cannot listen on ${values.address}: ${error.message}`);
    process.exit(1);
  }
  const host = values.address.slice(0, values.address.lastIndexOf(':'));
  console.log(JSON.stringify({ address: `${host}:${port}`, version: model.version }));
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    // New calls go elsewhere at once; those in flight may end.
    for (const service of ['', SERVICE]) health.setStatus(service, 'NOT_SERVING');
    server.tryShutdown(() => process.exit(0));
    setTimeout(() => process.exit(0), STOP_GRACE_MS);
  });
}
