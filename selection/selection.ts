/** @file The interface of selections: plain arrays in, positions out; seeded, without repeats, within the budget. */
import { InputError } from '../common/errors.ts';
import { countOf, descending, type Rows, type ScoreLists } from '../math/numbers.ts';

/** Inputs of query selections; n queries. A selection lists the required ones in `needs`. */
export interface QueryInputs {
  /** Number of queries to choose from. */
  count: number;
  /** The student's scores of each query's candidates. */
  student?: ScoreLists;
  /** Scores of the same candidates by a second student with another initialization. */
  second?: ScoreLists;
  /** [n, D] query embeddings. */
  embeddings?: Rows;
  /** Positions of queries that are already labelled or chosen; they are not chosen again. */
  chosen?: ArrayLike<number>;
  /** [chosen, D] d loss / d embedding of the chosen queries. */
  gradients?: Rows;
  /** The teacher's error rate, estimated on a labelled split, from 0 to 1. */
  teacherError?: number;
  /** [n] the teacher's estimated probability of error, query by query. */
  teacherErrors?: ArrayLike<number>;
}
export type QueryInput = Exclude<keyof QueryInputs, 'count'>;

/** Inputs of candidate selections; the arrays of training examples. */
export interface CandidateInputs extends ScoreLists {
  /** [all candidates] 1 where a candidate is known to be relevant. */
  positives: ArrayLike<number>;
}

export interface Selected {
  /** Positions chosen, each once. */
  indices: Int32Array;
  /** A loss weight for each chosen one, where the selection gives weights. */
  weights?: Float32Array;
  /** Lists (or queries) where the rule could not be applied and a fallback was used. */
  flagged?: Int32Array;
}

export interface SelectedCandidates extends Selected {
  /** Those of list i are indices[offsets[i] .. offsets[i + 1]]: known positives first, then negatives as chosen. */
  offsets: Int32Array;
}

export interface BudgetOptions {
  /** How many to choose; all if there are fewer. */
  budget: number;
  seed?: number;
}

/** A way to choose the queries that the teacher scores. */
export interface QuerySelection {
  readonly name: string;
  readonly needs: readonly QueryInput[];
  select(inputs: QueryInputs, options: BudgetOptions): Selected;
}

/** A way to choose the candidates that are trained on. */
export interface CandidateSelection {
  readonly name: string;
  select(inputs: CandidateInputs, options?: { seed?: number }): SelectedCandidates;
}

/** Makes a selection of queries that checks its inputs first. */
export function defineQuerySelection(
  name: string,
  needs: readonly QueryInput[],
  choose: (inputs: QueryInputs, pool: Int32Array, budget: number, seed: number) => Selected,
): QuerySelection {
  return {
    name,
    needs,
    select(inputs, { budget, seed = 0 }) {
      if (!Number.isInteger(budget) || budget < 0)
        throw new InputError({
          code: 'selection.budget',
          subject: `the budget of selection '${name}'`,
          expected: 'a whole number of queries',
          received: String(budget),
        });
      for (const input of needs) {
        const given = inputs[input];
        if (given === undefined)
          throw new InputError({
            code: 'selection.missing-input',
            subject: `selection '${name}' has no '${input}'`,
            expected: needs.join(', '),
          });
      }
      checkCounts(name, inputs);
      const taken = new Set(Array.from(inputs.chosen ?? []));
      const pool = Int32Array.from({ length: inputs.count }, (_, i) => i).filter((i) => !taken.has(i));
      return choose(inputs, pool, Math.min(budget, pool.length), seed);
    },
  };
}

function checkCounts(name: string, { count, student, second, embeddings, teacherErrors }: QueryInputs): void {
  const counts: [string, number | undefined][] = [
    ['student', student && student.offsets.length - 1],
    ['second', second && second.offsets.length - 1],
    ['embeddings', embeddings && countOf(embeddings)],
    ['teacherErrors', teacherErrors?.length],
  ];
  for (const [input, found] of counts)
    if (found !== undefined && found !== count)
      throw new InputError({
        code: 'selection.count',
        subject: `'${input}' given to selection '${name}'`,
        expected: `${count} queries`,
        received: String(found),
      });
}

/** The pool members of the largest values; ties by the lower position. */
export function largest(pool: Int32Array, values: ArrayLike<number>, budget: number): Int32Array {
  return descending(Float64Array.from(pool, (i) => values[i]))
    .subarray(0, budget)
    .map((k) => pool[k]);
}
