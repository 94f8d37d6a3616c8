/** @type {import('next').NextConfig} */
export default {
  // It brings a native binary along, which no bundler may touch.
  serverExternalPackages: ['neuro-tutor'],
}
