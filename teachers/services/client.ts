/** @file Requests to a service: with rate limit, retries, a budget, and its error messages. */
import { FaultError, InputError, shown } from '../../common/errors.ts';
import { isSilence, isUnreachable, pause, request, retryAfter, textWithin } from '../../common/http.ts';

export interface ClientOptions {
  url: string;
  /** Environment variable of the key; without a value nothing is sent. */
  keyVariable: string;
  /** Requests under way at once. */
  concurrency?: number;
  requestsPerMinute?: number;
  /** Milliseconds that an answer may take. */
  timeout?: number;
  /** How often a request is repeated. */
  retries?: number;
  /** The budget at which requests stop. */
  budget?: { requests?: number; texts?: number };
  /** Milliseconds before the first repetition; each further one waits twice as long. */
  retryDelay?: number;
}

const LONGEST_ANSWER = 256 << 20;
const LONGEST_WAIT = 5 * 60_000;
const LONGEST_BACKOFF = 30_000;

/** The service takes fewer texts at once. */
export class TooMany extends Error {}

export class ServiceClient {
  requests = 0;
  texts = 0;
  private notBefore = 0;
  private readonly options: Required<Omit<ClientOptions, 'budget' | 'requestsPerMinute'>> & ClientOptions;
  private readonly key: string | undefined;

  constructor(options: ClientOptions) {
    this.options = { concurrency: 4, timeout: 60_000, retries: 5, retryDelay: 500, ...options };
    this.key = process.env[options.keyVariable]?.trim() || undefined;
    if (this.key && /[^\x21-\x7e]/.test(this.key))
      throw new InputError({
        code: 'service.key',
        subject: `the environment variable ${options.keyVariable}`,
        expected: 'a key: printable ASCII characters without spaces',
        remedy: 'copy it again from the service',
      });
  }

  /**
   * An answer's JSON. @param texts counted against the budget
   * @throws FaultError where the budget is spent or the service fails; InputError where it refuses; TooMany
   */
  async post(body: object, texts: number, signal?: AbortSignal): Promise<unknown> {
    const { retries, retryDelay } = this.options;
    for (let attempt = 0; ; attempt++) {
      this.spend(texts);
      await this.turn(signal);
      let wait: number | undefined;
      let failure: Error;
      try {
        const response = await this.send(body, signal);
        if (response.ok) return await this.json(response);
        const said = this.safe(messageOf(await textWithin(response, 1 << 20).catch(() => '')));
        if (
          texts > 1 &&
          (response.status === 413 || (isRefusal(response.status) && /batch|too (many|large)/i.test(said)))
        )
          throw new TooMany(said);
        failure = this.refused(response.status, said);
        wait = retryAfter(response.headers);
        if (!(response.status === 429 || response.status === 408 || response.status >= 500)) throw failure;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof InputError || error instanceof TooMany) throw error;
        if (error instanceof RangeError) throw this.unused(error.message, error);
        failure = this.unanswered(error);
        if (isUnreachable(error)) throw failure;
      }
      if (attempt >= retries) throw failure;
      const pauses = wait ?? Math.min(LONGEST_BACKOFF, retryDelay * 2 ** attempt);
      if (pauses > LONGEST_WAIT) throw failure;
      // Other requests wait too: the service asked to wait.
      this.notBefore = Math.max(this.notBefore, Date.now() + pauses);
    }
  }

  private spend(texts: number): void {
    const { budget = {} } = this.options;
    const spent =
      this.requests + 1 > (budget.requests ?? Number.POSITIVE_INFINITY)
        ? `${budget.requests} requests`
        : this.texts + texts > (budget.texts ?? Number.POSITIVE_INFINITY)
          ? `${budget.texts} texts`
          : undefined;
    if (spent)
      throw new FaultError({
        code: 'service.budget',
        subject: `the budget of ${spent} to ${this.name} is spent`,
        remedy: "raise 'budget' and run the same command again: earlier results are kept",
      });
    this.requests++;
    this.texts += texts;
  }

  /** Waits for a request's place in the rate. */
  private async turn(signal: AbortSignal | undefined): Promise<void> {
    const { requestsPerMinute } = this.options;
    const at = Math.max(Date.now(), this.notBefore);
    if (requestsPerMinute) this.notBefore = at + 60_000 / requestsPerMinute;
    if (at > Date.now()) await pause(at - Date.now(), signal);
  }

  private async send(body: object, signal: AbortSignal | undefined): Promise<Response> {
    const { url, timeout } = this.options;
    const response = await request(url, {
      method: 'POST',
      // A key is for the address that the config names.
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json',
        ...(this.key && { authorization: `Bearer ${this.key}` }),
      },
      body: JSON.stringify(body),
      silence: timeout,
      signal: AbortSignal.any([AbortSignal.timeout(timeout), ...(signal ? [signal] : [])]),
    });
    return response;
  }

  private async json(response: Response): Promise<unknown> {
    const text = (await textWithin(response, LONGEST_ANSWER)).replace(/^\ufeff/, '');
    let answer: unknown;
    try {
      answer = JSON.parse(text);
    } catch (cause) {
      throw this.unused(`what is not JSON (it begins ${JSON.stringify(this.safe(text.slice(0, 60)))})`, cause);
    }
    // Some servers say 200 whatever happened.
    if (answer !== null && typeof answer === 'object' && 'error' in answer && answer.error)
      throw this.unused(`an error (${this.safe(messageOf(text))})`);
    return answer;
  }

  private unused(what: string, cause?: unknown): FaultError {
    return new FaultError({
      code: 'service.answer',
      subject: `${this.name} answers with ${what}`,
      remedy: 'check that url and format fit each other; earlier results are kept',
      cause,
    });
  }

  /** The address without what a query part could hold. */
  get name(): string {
    const { origin, pathname } = new URL(this.options.url);
    return `${origin}${pathname}`;
  }

  private safe(text: string): string {
    const line = shown(this.key ? text.replaceAll(this.key, '***') : text);
    return line.length > 200 ? `${line.slice(0, 200)}…` : line;
  }

  private refused(status: number, said: string): Error {
    const details = {
      code: 'service.refused',
      subject: `${this.name} ${status >= 500 ? 'fails' : 'refuses'} (${status}${said && `: ${said}`})`,
    };
    if (status === 401 || status === 403)
      return new InputError({ ...details, remedy: `set ${this.options.keyVariable} to a key that may use it` });
    if (status >= 300 && status < 400)
      return new InputError({ ...details, remedy: 'it leads to another address: give that one as url' });
    if (status === 404) return new InputError({ ...details, remedy: 'check url, format and model' });
    if (isRefusal(status)) return new InputError({ ...details, remedy: 'check format, model and the options' });
    return new FaultError({ ...details, remedy: 'run the same command again later: earlier results are kept' });
  }

  private unanswered(error: unknown): FaultError {
    const { message, cause } = error as Error & { cause?: Error };
    const why = isSilence(error)
      ? `nothing within ${this.options.timeout / 1000} s`
      : this.safe(cause?.message || message || 'the connection ended');
    return new FaultError({
      code: 'service.unreachable',
      subject: `${this.name} does not answer (${why})`,
      remedy: 'check url and that the service runs, and run the same command again: earlier results are kept',
      cause: error,
    });
  }
}

const isRefusal = (status: number): boolean => status >= 400 && status < 500 && status !== 429 && status !== 408;

/** A service's error message: a field of its JSON, or the text itself without markup. */
function messageOf(text: string): string {
  try {
    const { error, message, detail } = JSON.parse(text) as Record<string, unknown>;
    const found = (error as { message?: unknown } | undefined)?.message ?? message ?? detail ?? error;
    return typeof found === 'string' ? found : JSON.stringify(found ?? '');
  } catch {
    return text
      .replace(/<(style|script)[\s\S]*?<\/\1>|<[^>]*>/gi, ' ')
      .replace(/\s+/g, ' ')
      .trim();
  }
}
