// The interactive documentation in a real browser that can reach nothing but the server.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium } from 'playwright-core'

let server, url, browser, directory, frontEnd, origin

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'neuro-tutor-'))
  // A real page: a browser keeps those that come from nowhere away from this machine's servers.
  frontEnd = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<title>front end</title>'))
  await new Promise((resolve) => frontEnd.listen(0, 'localhost', resolve))
  origin = `http://localhost:${frontEnd.address().port}`
  server = spawn(process.env.NEURO_TUTOR, ['--port', '0'], {
    cwd: directory,
    env: { PATH: process.env.PATH, DEMO_DELAY_MS: '0', CORS_ORIGINS: origin },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  url = await new Promise((resolve, reject) => {
    let output = ''
    const look = (chunk) => {
      output += chunk
      const found = output.match(/http:\/\/[\d.]+:\d+/)
      if (found) resolve(found[0])
    }
    server.stdout.on('data', look)
    server.stderr.on('data', look)
    server.once('exit', () => reject(new Error(`the server did not start: ${output}`)))
  })
  browser = await chromium.launch({
    executablePath: process.env.BROWSER,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
})

after(async () => {
  await browser?.close()
  server?.kill()
  frontEnd?.close()
  await rm(directory, { recursive: true, force: true })
})

test('Swagger UI renders and calls the API without any other host', async () => {
  const page = await browser.newPage()
  const elsewhere = []
  const problems = []
  await page.route('**', (route) => {
    const target = route.request().url()
    if (target.startsWith(url) || target.startsWith('data:')) return route.continue()
    elsewhere.push(target)
    return route.abort()
  })
  page.on('pageerror', (error) => problems.push(error.message))
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()))
  await page.goto(`${url}/docs`)
  await page.getByText('Neuro Tutor API').first().waitFor()
  const operation = page.locator('.opblock', { hasText: '/api/chat' }).first()
  await operation.waitFor()
  await operation.locator('.opblock-summary-control').first().click()
  await operation.getByRole('button', { name: 'Try it out' }).click()
  await operation.locator('textarea').first().fill('{"messages":[{"role":"user","content":"Hello"}]}')
  await operation.getByRole('button', { name: 'Execute' }).click()
  await operation.locator('.live-responses-table .response-col_status', { hasText: '200' }).first().waitFor()
  assert.deepEqual(elsewhere, [])
  assert.deepEqual(problems, [])
})

test('a page of an allowed origin reads a streamed reply', async () => {
  const page = await browser.newPage()
  await page.goto(origin)
  const text = await page.evaluate(async (url) => {
    const response = await fetch(`${url}/api/chat`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      credentials: 'include',
      body: JSON.stringify({ messages: [{ role: 'user', content: 'Hello' }], stream: true }),
    })
    return response.text()
  }, url)
  assert.match(text, /^event: turn\.started$/m)
  assert.match(text, /^event: turn\.finished$/m)
})
