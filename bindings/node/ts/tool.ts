import { type Causes, TutorError, toNative } from './errors.js'
import { type OptionCode, stringify } from './json.js'
import type { Answer } from './native.js'
import { type Schema, toJsonSchema, validated } from './schema.js'

/** Where and for whom a tool is called. */
export interface ToolContext {
  /** Aborted when nobody wants the answer any more: give it to `fetch`. */
  signal: AbortSignal
  /** Pairs the call with its result. */
  callId: string
  sessionId: string
  turnId: string
  owner: string
  /** Milliseconds that are left of the turn; null for no limit. */
  timeoutMs: number | null
}

/**
 * A function that a model may have called while it answers.
 *
 * Its arguments are validated before it is called. Limits bound its time and the size of its answer. What
 * it throws is told to the model, which goes on: the message of a {@link TutorError}, and of anything else
 * only that it failed.
 *
 * A tool without `execute` is the caller's to run: a reply that asks for it ends with the `finishReason`
 * `tool_calls`, and {@link Reply.toolCalls} has the calls. The next request brings what came of them, as
 * parts `{ type: 'tool_result', callId, result }` of its message, and the model goes on.
 */
export interface Tool<Input = any> {
  /** What it does, for the model. */
  description?: string | undefined
  /** The form of its arguments, which are an object; none if absent. */
  inputSchema?: Schema<Input> | undefined
  /** Does the work. What it returns is told to the model: a text, or any other JSON. */
  execute?(input: Input, context: ToolContext): unknown
}

/** Tools by their names: 1 to 64 ASCII letters, digits, `_` and `-`. */
export type Tools = Readonly<Record<string, Tool>>

/**
 * A tool whose function has the types of its schema.
 *
 * @example
 * ```ts
 * const double = tool({
 *   description: 'Doubles a number',
 *   inputSchema: z.object({ n: z.number() }),
 *   execute: ({ n }) => 2 * n,
 * })
 * const tutor = await Tutor.open('data', { tools: { double } })
 * ```
 */
export function tool<Input = any>(tool: Tool<Input>): Tool<Input> {
  return tool
}

/** What the engine calls: it is told a JSON text. */
export type Called = (told: unknown, signal: AbortSignal) => unknown

/** A tool as the engine is told of it. */
export interface DescribedTool {
  name: string
  description: unknown
  parameters: unknown
}

function describeTool(name: string, tool: Tool, code: OptionCode): DescribedTool {
  const isTool = typeof tool === 'object' && tool !== null && ['function', 'undefined'].includes(typeof tool.execute)
  if (!isTool) {
    throw new TutorError(code, 'a tool is an object with description, inputSchema and, unless you run it yourself, a function execute', {
      context: { tool: name },
    })
  }
  const { description, inputSchema } = tool
  const parameters = inputSchema === undefined ? undefined : toJsonSchema(inputSchema, 'inputSchema', code)
  return { name, description, parameters }
}

/**
 * Tools as the engine is told of them: those that it has called here, and those that the caller runs. What is
 * wrong is an error of this code.
 */
export function describeTools(tools: Tools, code: OptionCode): { own: DescribedTool[]; called: Called[]; clients: DescribedTool[] } {
  if (typeof tools !== 'object' || tools === null || Array.isArray(tools)) {
    throw new TutorError(code, 'tools is an object of tools by their names', { context: { field: 'tools' } })
  }
  const own: DescribedTool[] = []
  const called: Called[] = []
  const clients: DescribedTool[] = []
  for (const [name, tool] of Object.entries(tools)) {
    const described = describeTool(name, tool, code)
    if (tool.execute === undefined) {
      clients.push(described)
    } else {
      own.push(described)
      called.push(asCalled(tool))
    }
  }
  return { own, called, clients }
}

interface PlainCall {
  id: string
  arguments: unknown
  session_id: string
  turn_id: string
  owner: string
  timeout: number | null
}

/** The tool as the engine calls it. */
function asCalled(tool: Tool): Called {
  return async (told, signal) => {
    const call = told as PlainCall
    const refuse = (where: string) => new TutorError('invalid_input', `the arguments do not fit: ${where}`)
    const input = await validated(tool.inputSchema, call.arguments, refuse)
    return tool.execute?.(input, {
      signal,
      callId: call.id,
      sessionId: call.session_id,
      turnId: call.turn_id,
      owner: call.owner,
      timeoutMs: call.timeout === null ? null : call.timeout * 1000,
    })
  }
}

/** Calls a user's functions when the engine asks. */
export class Functions {
  readonly #functions: Map<number, Called>
  #last: number
  readonly #causes: Causes
  readonly #running = new Map<number, AbortController>()

  /** The functions are in the engine's order, from 0. */
  constructor(functions: readonly Called[], causes: Causes) {
    this.#functions = new Map(functions.entries())
    this.#last = functions.length - 1
    this.#causes = causes
  }

  /** Keeps one more, until the engine says to forget it; gives its number. */
  add(called: Called): number {
    do this.#last = (this.#last + 1) >>> 0
    while (this.#functions.has(this.#last))
    this.#functions.set(this.#last, called)
    return this.#last
  }

  /** Forgets one. */
  readonly forget = (index: number): void => {
    this.#functions.delete(index)
  }

  /** Calls one. Never throws; what comes of it is the answer. */
  readonly ask = (index: number, call: number, told: string, answer: Answer): void => {
    void this.#run(index, call, told, answer)
  }

  /** Tells a function that nobody wants its answer any more. */
  readonly cancel = (call: number): void => {
    this.#running.get(call)?.abort()
  }

  async #run(index: number, call: number, told: string, answer: Answer): Promise<void> {
    const controller = new AbortController()
    this.#running.set(call, controller)
    try {
      const called = this.#functions.get(index)
      if (called === undefined) throw new TutorError('internal', 'no such function')
      const result = await called(JSON.parse(told), controller.signal)
      answer.done(stringify(result) ?? 'null')
    } catch (error) {
      answer.fail(toNative(error), this.#causes.keep(error))
    } finally {
      this.#running.delete(call)
    }
  }
}
