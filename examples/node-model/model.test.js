import assert from 'node:assert/strict';
import { test } from 'node:test';

import { NobodyWaits, SpecialtyPopularity } from './model.js';

const waiting = () => false;

/** Ten cardiologists read c0 to c3, ten oncologists o0 to o3; everybody reads all. */
function world() {
  const specialties = new Map();
  const engagements = [];
  for (let n = 0; n < 20; n += 1) {
    const isHeart = n % 2 === 0;
    specialties.set(`d${n}`, [isHeart ? 'cardiology' : 'oncology']);
    for (let item = 0; item < 4; item += 1) {
      engagements.push({ userId: `d${n}`, itemId: `${isHeart ? 'c' : 'o'}${item}` });
    }
    engagements.push({ userId: `d${n}`, itemId: 'all' });
  }
  return { specialties, engagements };
}

test('colleagues of the specialty are believed first', async () => {
  const model = new SpecialtyPopularity(world());
  const found = await model.retrieve(['cardiology'], ['c0'], 4, waiting);
  assert.deepEqual(
    found.map(({ itemId }) => itemId),
    ['all', 'c1', 'c2', 'c3'],
  );
  const scores = await model.score(
    ['cardiology'],
    found.map(({ itemId }) => itemId),
    waiting,
  );
  assert.deepEqual(scores, found.map(({ score }) => score));
});

test('what it does not know it has no opinion on', async () => {
  const model = new SpecialtyPopularity(world());
  const scores = await model.score(['cardiology'], ['c1', 'never-read', 'o1'], waiting);
  assert.equal(scores[1], undefined);
  assert.ok(scores[0] > scores[2]);
  assert.ok(scores.every((score) => score === undefined || Number.isFinite(score)));
  assert.deepEqual(await model.score(['astrology'], ['c1'], waiting), [undefined]);
  assert.deepEqual(await model.retrieve([], [], 5, waiting), []);
});

test('an event that is told twice counts once', () => {
  const once = world();
  const twice = { ...once, engagements: [...once.engagements, ...once.engagements] };
  assert.equal(new SpecialtyPopularity(twice).version, new SpecialtyPopularity(once).version);
});

test('it stops when nobody waits any more', async () => {
  const model = new SpecialtyPopularity(world());
  const many = Array.from({ length: 5000 }, (_, n) => `i${n}`);
  let looks = 0;
  await assert.rejects(
    model.score(['cardiology'], many, () => (looks += 1) > 2),
    NobodyWaits,
  );
  assert.equal(looks, 3);
});
