#!/usr/bin/env node
// `npx neuro-tutor`: the same command line as that of the server's binary.

// Node has handlers of its own for these, before which the engine's would come in vain. Without any
// listener the system's own are back, and the engine puts its own there where it wants some.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  const nothing = (): void => {}
  process.on(signal, nothing)
  process.off(signal, nothing)
}

function main(): number {
  let native: typeof import('./native.js')['native']
  try {
    ;({ native } = require('./native.js') as typeof import('./native.js'))
  } catch (error) {
    console.error(`neuro-tutor: ${error instanceof Error ? error.message : String(error)}`)
    return 1
  }
  return native.NativeServer.commandLine(['neuro-tutor', ...process.argv.slice(2)])
}

process.exit(main())
