// Everything that the engine offers has its name here.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'

import { Files, Tutor, TurnStream } from 'neuro-tutor'

import { PACKAGE } from './support.mjs'

const FACES = JSON.parse(readFileSync(join(PACKAGE, '..', 'faces.json'), 'utf8'))
const CLASSES = { Files, Tutor, TurnStream }
/** Where the options of a method are declared. */
const DECLARED = { 'Tutor.open': ['TutorOptions', 'options'], 'Tutor.chat': ['ChatOptions', 'options'], 'Tutor.stream': ['StreamOptions', 'options'], 'Tutor.close': ['close', 'tutor'] }

/** The text from a declaration's name to its end. */
function declaration(name, file) {
  const source = readFileSync(join(PACKAGE, 'dist', `${file}.d.ts`), 'utf8')
  const start = source.search(new RegExp(`\\b(interface )?${name}\\b[<( ]`))
  return source.slice(start, source.indexOf('\n}', start))
}

for (const [type, methods] of Object.entries(FACES)) {
  test(`every method of the engine's ${type} has its name, or a reason`, () => {
    for (const [method, { node, reason }] of Object.entries(methods)) {
      if (node === undefined) {
        assert.equal(typeof reason, 'string', method)
        continue
      }
      const [, owner, name, option] = /^(\w+)\.(\w+)(?:\((\w+)\))?$/.exec(node)
      const found = owner in CLASSES && (name in CLASSES[owner] || name in CLASSES[owner].prototype)
      assert.ok(found, `${node}, for ${type}.${method}`)
      if (option === undefined || option === 'location') continue
      const [declared, file] = DECLARED[`${owner}.${name}`]
      assert.match(declaration(declared, file), new RegExp(`\\b${option}\\??:`), `${node}, for ${type}.${method}`)
    }
  })
}
