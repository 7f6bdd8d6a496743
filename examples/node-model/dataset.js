// Reads a data set as `recmesh ingest` leaves it: docs/interchange.md has the tables.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

// Events that say that a user wanted the item.
const POSITIVE = new Set(['click', 'dwell', 'save', 'share', 'swipe']);

async function rows(folder, file, columns) {
  if (file === undefined) return [];
  const buffer = await asyncBufferFromFile(join(folder, file));
  return parquetReadObjects({ file: buffer, columns, compressors });
}

/** Who engaged with what, and everybody's specialties. */
export async function readDataset(folder) {
  const { version = '', files } = JSON.parse(readFileSync(join(folder, 'dataset.json'), 'utf8'));
  const users = await rows(folder, files.users, ['user_id', 'specialties']);
  const events = await rows(folder, files.events, ['user_id', 'item_id', 'event_type']);
  return {
    version,
    specialties: new Map(users.map((user) => [user.user_id, user.specialties ?? []])),
    engagements: events
      .filter((event) => event.item_id && POSITIVE.has(event.event_type))
      .map((event) => ({ userId: event.user_id, itemId: event.item_id })),
  };
}
