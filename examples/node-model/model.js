// What colleagues of one's specialty read: an opinion of doctors who have no history yet.

import { createHash } from 'node:crypto';

// Colleagues whose word counts as much as everybody's: shrinks what few doctors support.
const SHRINKAGE = 20;
// Items between two looks at whether anybody still waits.
const AT_ONCE = 500;

const logOdds = (share) => Math.log(share / (1 - share));
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

/** Thrown when nobody waits for the answer any more. */
export class NobodyWaits extends Error {}

export class SpecialtyPopularity {
  /** Counts, for every specialty and item, the doctors who engaged with it. */
  constructor({ specialties, engagements }) {
    this.doctors = new Map();
    this.readers = new Map();
    this.readersOf = new Map();
    for (const names of specialties.values()) {
      for (const name of names) this.doctors.set(name, (this.doctors.get(name) ?? 0) + 1);
    }
    this.everybody = Math.max(specialties.size, 1);
    const counted = new Set();
    for (const { userId, itemId } of engagements) {
      const pair = `${userId}\n${itemId}`;
      // Doctors whose profile is not known have no specialty to speak for.
      if (counted.has(pair) || !specialties.has(userId)) continue;
      counted.add(pair);
      this.readers.set(itemId, (this.readers.get(itemId) ?? 0) + 1);
      for (const name of specialties.get(userId)) {
        if (!this.readersOf.has(name)) this.readersOf.set(name, new Map());
        const items = this.readersOf.get(name);
        items.set(itemId, (items.get(itemId) ?? 0) + 1);
      }
    }
    this.itemIds = [...this.readers.keys()].sort();
    const learned = [...this.doctors, ...this.readers, ...this.readersOf].map((entry) =>
      entry[1] instanceof Map ? [entry[0], [...entry[1]]] : entry,
    );
    this.version = createHash('sha256').update(JSON.stringify(learned)).digest('hex').slice(0, 16);
  }

  /** Specialties of a doctor that anybody here has. */
  known(specialties) {
    return specialties.filter((name) => this.doctors.has(name));
  }

  /**
   * Log-odds that a colleague engaged with the item, the mean over known specialties; undefined
   * where nobody did. Depends on nothing but specialties and item.
   */
  opinion(specialties, itemId) {
    const readers = this.readers.get(itemId);
    if (readers === undefined || specialties.length === 0) return undefined;
    const usual = readers / (this.everybody + 1);
    let sum = 0;
    for (const name of specialties) {
      const colleagues = this.readersOf.get(name)?.get(itemId) ?? 0;
      const share =
        (colleagues + SHRINKAGE * usual) / (this.doctors.get(name) + SHRINKAGE);
      sum += logOdds(Math.min(share, 1 - 1e-6));
    }
    return Math.fround(sum / specialties.length);
  }

  /** An opinion of each item, in their order; undefined is none. */
  async score(specialties, itemIds, isOver) {
    const known = this.known(specialties);
    const opinions = [];
    for (const [position, itemId] of itemIds.entries()) {
      if (position % AT_ONCE === 0) {
        await nextTurn();
        if (isOver()) throw new NobodyWaits();
      }
      opinions.push(this.opinion(known, itemId));
    }
    return opinions;
  }

  /** The best items outside the history, best first; none for a doctor of no known specialty. */
  async retrieve(specialties, historyItemIds, limit, isOver) {
    const read = new Set(historyItemIds);
    const candidates = this.itemIds.filter((itemId) => !read.has(itemId));
    const opinions = await this.score(specialties, candidates, isOver);
    return candidates
      .map((itemId, position) => ({ itemId, score: opinions[position] }))
      .filter(({ score }) => score !== undefined)
      .sort((a, b) => b.score - a.score)
      .slice(0, limit);
  }
}
