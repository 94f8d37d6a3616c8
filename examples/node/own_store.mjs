// A store of one's own, complete: everything in memory, and every change in a file of JSON lines, from which it
// is made again.
//
// Each change is a method in two parts: what checks it and throws, and what makes it. Between them it is written to
// the disk, so that a change is whole or not at all.
import { closeSync, existsSync, fdatasyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { Tutor, TutorError } from 'neuro-tutor'

const conflict = (message, context) => new TutorError('conflict', message, { context })
const notFound = (message, context) => new TutorError('not_found', message, { context })
const invalid = (message, context) => new TutorError('invalid_input', message, { context })
const busy = ({ running_turn: turn }) => conflict('the session has a running turn', { turn })
const later = (a, b) => (a > b ? a : b)
const byBytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))
const known = (value) => value !== null && value !== undefined

export class OwnStore {
  name = 'own'
  durability = 'power'
  exclusive = true
  /** By owner: the sessions by id (each with its messages by id, in their order), and the turns by id. */
  #owners = new Map()
  /** By kind, then by key. */
  #records = new Map()
  #lastVersion = 0
  #file
  #size = 0

  /** The store in this file, which is created if it is absent. */
  constructor(path) {
    this.location = path
    const text = existsSync(path) ? readFileSync(path, 'utf8') : ''
    // A line without an end was never acknowledged.
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    for (const line of whole.split('\n')) {
      if (line === '') continue
      const [method, ...args] = JSON.parse(line)
      this[method](...args)
    }
    this.#file = openSync(path, existsSync(path) ? 'r+' : 'w+')
    this.#size = Buffer.byteLength(whole)
    ftruncateSync(this.#file, this.#size)
  }

  #write(change, make) {
    // While the file is read there is nothing to write.
    if (this.#file !== undefined) {
      const line = Buffer.from(`${JSON.stringify(change)}\n`)
      try {
        writeSync(this.#file, line, 0, line.length, this.#size)
        fdatasyncSync(this.#file)
      } catch (cause) {
        ftruncateSync(this.#file, this.#size)
        throw new TutorError('store_unavailable', 'the file cannot be written', { cause })
      }
      this.#size += line.length
    }
    return make()
  }

  #owner(owner) {
    if (!this.#owners.has(owner)) this.#owners.set(owner, { sessions: new Map(), turns: new Map() })
    return this.#owners.get(owner)
  }

  #kept({ owner, id }) {
    return this.#owners.get(owner)?.sessions.get(id)
  }

  #found(key) {
    const kept = this.#kept(key)
    if (kept === undefined) throw notFound('no such session', { session: key.id })
    return kept
  }

  // Sessions

  createSession(session) {
    if (this.#kept(session)) throw conflict('a session of this id exists', { session: session.id })
    this.#write(['createSession', session], () => {
      this.#owner(session.owner).sessions.set(session.id, { session, messages: new Map() })
    })
  }

  session(key) {
    return this.#kept(key)?.session
  }

  sessions({ owner, limit, behind }) {
    // Times are texts of one length: they sort like times.
    const order = (a, b) => byBytes(b.updated_at, a.updated_at) || byBytes(b.id, a.id)
    const all = [...(this.#owners.get(owner)?.sessions.values() ?? [])].map(({ session }) => session).sort(order)
    return all.filter((session) => behind === null || order(session, behind) > 0).slice(0, limit)
  }

  updateSession(key, patch) {
    const { session, messages } = this.#found(key)
    if (known(patch.head) && !messages.has(patch.head)) throw invalid('no such message in this session', { message: patch.head })
    return this.#write(['updateSession', key, patch], () => {
      if (known(patch.made_title) && !session.own_title) session.title = patch.made_title
      if (known(patch.title)) Object.assign(session, { title: patch.title, own_title: true })
      for (const member of ['metadata', 'head', 'summary']) if (known(patch[member])) session[member] = patch[member]
      session.updated_at = later(session.updated_at, patch.updated_at)
      return session
    })
  }

  deleteSession(key) {
    if (!this.#kept(key)) return false
    return this.#write(['deleteSession', key], () => this.#delete(key))
  }

  #delete({ owner, id }) {
    const { sessions, turns } = this.#owner(owner)
    for (const [name, { turn }] of turns) if (turn.session_id === id) turns.delete(name)
    return sessions.delete(id)
  }

  // Messages

  messages({ session: key, leaf, all, before, after, limit }) {
    const { session, messages } = this.#found(key)
    for (const id of [leaf, before, after]) {
      if (known(id) && !messages.has(id)) throw invalid('no such message in this session', { message: id })
    }
    if (all) {
      const ids = [...messages.keys()]
      const end = known(before) ? ids.indexOf(before) : ids.length
      const start = known(after) ? ids.indexOf(after) + 1 : Math.max(0, end - limit)
      return ids.slice(start, known(after) ? start + limit : end).map((id) => messages.get(id))
    }
    // From the leaf backwards: as many as are wanted, or up to the one after which it goes on.
    const line = []
    let at = known(before) ? messages.get(before).parent_id : (leaf ?? session.head)
    while (known(at) && at !== after && (known(after) || line.length < limit)) {
      line.unshift(messages.get(at))
      at = line[0].parent_id
    }
    if (!known(after)) return line
    if (at !== after) throw invalid('the message is not on this branch', { message: after })
    return line.slice(0, limit)
  }

  deleteMessage(key, cut) {
    const { session, messages } = this.#found(key)
    const message = messages.get(cut.message)
    if (message === undefined) throw notFound('no such message', { message: cut.message })
    if (session.running_turn) throw busy(session)
    const gone = new Set([message.id])
    for (const { id, parent_id: parent } of messages.values()) {
      if (!gone.has(parent)) continue
      if (!cut.with_branch) throw conflict('other messages follow this one', { message: message.id, follower: id })
      gone.add(id)
    }
    return this.#write(['deleteMessage', key, cut], () => {
      for (const id of gone) messages.delete(id)
      const { turns } = this.#owner(key.owner)
      for (const [id, { turn }] of turns) {
        const goes = gone.has(turn.user_message_id) || gone.has(turn.reply_message_id)
        if (turn.session_id === key.id && goes) turns.delete(id)
      }
      if (gone.has(session.head)) session.head = message.parent_id ?? [...messages.keys()].at(-1) ?? null
      if (gone.has(session.summary?.through)) delete session.summary
      session.message_count -= gone.size
      session.updated_at = later(session.updated_at, cut.updated_at)
      return gone.size
    })
  }

  // Turns

  #turn({ owner, id }) {
    return this.#owners.get(owner)?.turns.get(id)
  }

  turn(key) {
    return this.#turn(key)?.turn
  }

  turnByKey(owner, name) {
    for (const { turn } of this.#owners.get(owner)?.turns.values() ?? []) {
      if (known(name) && turn.idempotency_key === name) return turn
    }
    return null
  }

  beginTurn(begun) {
    const { turn, new_session: fresh, expected_head: expected } = begun
    const key = { owner: turn.owner, id: turn.session_id }
    const earlier = this.turnByKey(turn.owner, turn.idempotency_key)
    if (earlier) {
      if (earlier.fingerprint === turn.fingerprint) return earlier
      throw conflict('the idempotency key names another request', { turn: earlier.id })
    }
    const kept = this.#kept(key)
    if (fresh && kept) throw conflict('a session of this id exists', { session: key.id })
    if (!fresh && !kept) throw notFound('no such session', { session: key.id })
    const { session, messages } = kept ?? { session: fresh, messages: new Map() }
    if (session.running_turn) throw busy(session)
    if ((session.head ?? null) !== (expected ?? null)) throw conflict('the session went on meanwhile', { head: session.head ?? 'none' })
    this.#checkMessages(messages, begun)
    if (this.#turn(turn)) throw conflict('a turn of this id exists', { turn: turn.id })
    return this.#write(['beginTurn', begun], () => {
      const { sessions, turns } = this.#owner(turn.owner)
      sessions.set(key.id, { session, messages })
      Object.assign(session, { head: turn.user_message_id, running_turn: turn.id, preferences: begun.preferences })
      session.message_count += begun.messages.length
      session.updated_at = later(session.updated_at, turn.started_at)
      if (known(begun.made_title) && !session.own_title) session.title = begun.made_title
      for (const message of begun.messages) messages.set(message.id, message)
      turns.set(turn.id, { turn, partial: null })
      return null
    })
  }

  #checkMessages(stored, { turn, messages }) {
    const earlier = new Set()
    for (const id of [...messages.map(({ id }) => id), turn.reply_message_id]) {
      if (stored.has(id) || earlier.has(id)) throw conflict('the session has a message of this id', { message: id })
      earlier.add(id)
    }
    const seen = new Set()
    for (const { id, parent_id: parent } of messages) {
      if (known(parent) && !stored.has(parent) && !seen.has(parent)) throw invalid("a message's parent is not in the session", { message: id, parent })
      seen.add(id)
    }
    const answered = messages.at(-1) ?? stored.get(turn.user_message_id)
    if (answered?.role !== 'user') throw invalid("a turn answers a learner's message of its session", { message: turn.user_message_id })
  }

  #running(key) {
    const running = this.#turn(key)
    if (running === undefined) throw notFound('no such turn', { turn: key.id })
    if (running.turn.status !== 'running') throw conflict('the turn has ended', { turn: key.id })
    return running
  }

  checkpointTurn(key, { partial, trace, lease_until }) {
    const running = this.#running(key)
    this.#write(['checkpointTurn', key, { partial, trace, lease_until }], () => {
      Object.assign(running.turn, { lease_until }, known(partial) ? { trace } : {})
      if (known(partial)) running.partial = partial
    })
  }

  finishTurn(key, end) {
    const running = this.#running(key)
    const { turn } = running
    if (known(end.expected_lease) && end.expected_lease !== turn.lease_until) throw conflict('another instance runs the turn', { turn: key.id })
    return this.#write(['finishTurn', key, end], () => {
      const { session, messages } = this.#kept({ owner: turn.owner, id: turn.session_id })
      Object.assign(turn, end.changes)
      running.partial = null
      session.running_turn = null
      session.updated_at = later(session.updated_at, turn.ended_at)
      if (known(end.reply)) {
        messages.set(end.reply.id, end.reply)
        session.message_count++
        if (session.head === turn.user_message_id) session.head = end.reply.id
      }
      return turn
    })
  }

  runningTurns() {
    const all = [...this.#owners.values()].flatMap(({ turns }) => [...turns.values()])
    return all.filter(({ turn }) => turn.status === 'running')
  }

  // Walking, carrying

  owners(after, limit) {
    const all = [...this.#owners].filter(([, { sessions }]) => sessions.size > 0).map(([owner]) => owner)
    return page(all, after, limit)
  }

  sessionIds(owner, after, limit) {
    return page([...(this.#owners.get(owner)?.sessions.keys() ?? [])], after, limit)
  }

  #turnsOf({ owner, id }) {
    return [...this.#owner(owner).turns.values()].filter(({ turn }) => turn.session_id === id)
  }

  turns(key, after, limit) {
    this.#found(key)
    const ids = this.#turnsOf(key).map(({ turn }) => turn.id)
    return page(ids, after, limit).map((id) => this.turn({ owner: key.owner, id }))
  }

  wholeSession(key) {
    const kept = this.#kept(key)
    if (kept === undefined) return null
    const turns = this.#turnsOf(key)
    return {
      session: kept.session,
      messages: [...kept.messages.values()],
      turns: turns.map(({ turn }) => turn),
      partial: turns.find(({ partial }) => partial)?.partial ?? null,
    }
  }

  importSession(whole, existing) {
    const { session, messages, turns, partial } = whole
    const found = this.session(session)
    if (found && existing === 'refuse') throw conflict('a session of this id exists', { session: session.id })
    if (found?.running_turn) throw busy(found)
    for (const turn of turns) {
      for (const other of [this.turn(turn), this.turnByKey(turn.owner, turn.idempotency_key)]) {
        if (other && other.session_id !== session.id) throw conflict('another session has this turn', { turn: other.id })
      }
    }
    this.#write(['importSession', whole, existing], () => {
      this.#delete(session)
      const owned = this.#owner(session.owner)
      owned.sessions.set(session.id, { session, messages: new Map(messages.map((message) => [message.id, message])) })
      for (const turn of turns) owned.turns.set(turn.id, { turn, partial: turn.status === 'running' ? partial : null })
    })
  }

  // Records

  get(kind, key) {
    return this.#records.get(kind)?.get(key)
  }

  kinds() {
    return [...this.#records.keys()].sort(byBytes)
  }

  scan(kind, { prefix, after }, limit) {
    const keys = [...(this.#records.get(kind)?.keys() ?? [])].filter((key) => key.startsWith(prefix))
    return page(keys, after, limit).map((key) => this.get(kind, key))
  }

  commit(writes) {
    const versions = new Map()
    let last = this.#lastVersion
    writes.forEach(({ kind, key, value, expect }, index) => {
      const name = JSON.stringify([kind, key])
      const now = versions.has(name) ? versions.get(name) : (this.get(kind, key)?.version ?? 0)
      if (known(expect) && expect !== now) throw conflict('the record changed', { kind, index: String(index) })
      last++
      versions.set(name, value === null ? 0 : last)
    })
    this.#write(['commit', writes], () => {
      for (const { kind, key, value } of writes) {
        this.#lastVersion++
        const records = this.#records.get(kind) ?? new Map()
        if (value === null) records.delete(key)
        else records.set(key, { key, value, version: this.#lastVersion })
        if (records.size === 0) this.#records.delete(kind)
        else this.#records.set(kind, records)
      }
    })
  }

  close() {
    closeSync(this.#file)
  }
}

/** The first ones behind another one, in the order of their bytes. */
function page(all, after, limit) {
  return all.filter((one) => !known(after) || byBytes(one, after) > 0).sort(byBytes).slice(0, limit)
}

if (process.argv[1] === import.meta.filename) {
  const tutor = await Tutor.open(new OwnStore('own.jsonl'))
  const reply = await tutor.chat('What is photosynthesis?')
  console.log((await tutor.session(reply.sessionId)).title)
  console.log(`${(await tutor.messages(reply.sessionId)).items.length} messages are in own.jsonl`)
  await tutor.close()
}
