// Writes the ESM entries: they re-export the CommonJS build, so that there is one copy of the classes and
// `instanceof` works across both.
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const dist = new URL('../dist/', import.meta.url)
const require = createRequire(import.meta.url)

for (const entry of ['index', 'openai-agents', 'testing']) {
  const names = Object.keys(require(`../dist/${entry}.js`)).filter((name) => name !== '__esModule')
  writeFileSync(
    new URL(`${entry}.mjs`, dist),
    `import all from './${entry}.js'\nexport const { ${names.join(', ')} } = all\n`,
  )
  writeFileSync(new URL(`${entry}.d.mts`, dist), `export * from './${entry}.js'\n`)
}
