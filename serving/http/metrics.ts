/** @file The server's metrics in Prometheus format. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export interface Watched {
  documents(): number;
  waiting(): number;
  running(): number;
  /** p-value of the comparison of the stream with calibration, where a cascade is served. */
  driftP?(): number;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export function serverMetrics(watched: Watched) {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  };
  gauge('distill_documents', 'Documents in the index', watched.documents);
  gauge('distill_requests_waiting', 'Requests that wait for their turn', watched.waiting);
  gauge('distill_requests_running', 'Requests that are running', watched.running);
  if (watched.driftP)
    gauge('distill_cascade_drift_p', 'P-value: served queries are like those of calibration', watched.driftP);
  const requests = new Counter({
    name: 'distill_requests_total',
    help: 'Requests answered',
    labelNames: ['route', 'status'] as const,
    registers,
  });
  const seconds = new Histogram({
    name: 'distill_request_seconds',
    help: 'Time to answer a request',
    labelNames: ['route'] as const,
    buckets: SECONDS,
    registers,
  });
  const pairs = new Counter({ name: 'distill_teacher_pairs_total', help: 'Pairs that the teacher scored', registers });
  const deferred = new Counter({
    name: 'distill_teacher_queries_total',
    help: 'Searches that were deferred to the teacher',
    registers,
  });
  const earlier = new Counter({
    name: 'distill_earlier_answers_total',
    help: 'Searches that took the answer of an earlier query',
    registers,
  });
  return {
    type: registry.contentType,
    text: () => registry.metrics(),
    answered(route: string, status: number, started: number): void {
      requests.inc({ route, status: String(status) });
      seconds.observe({ route }, (performance.now() - started) / 1000);
    },
    tookEarlier(): void {
      earlier.inc();
    },
    asked(scored: number): void {
      pairs.inc(scored);
      deferred.inc(Number(scored > 0));
    },
  };
}
