const camels = new Map<string, string>()

/** `session_id` → `sessionId` */
export function camelName(name: string): string {
  let camel = camels.get(name)
  if (camel === undefined) {
    camel = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
    // The engine has some hundred names; anything else is not worth keeping.
    if (camels.size < 1000) camels.set(name, camel)
  }
  return camel
}

/** `sessionId` → `session_id` */
export function snakeName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
