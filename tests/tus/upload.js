// Uploads the file argv[3] to the tus server argv[2] in chunks of argv[4] bytes, aborts once in the middle, goes on, and
// prints {url, resumed, offsets} as JSON.
const fs = require("fs")
const tus = require("tus-js-client")

const [endpoint, path, chunk] = process.argv.slice(2)
const size = fs.statSync(path).size
const offsets = []
let aborted = false

function open(url) {
  const upload = new tus.Upload(fs.createReadStream(path), {
    endpoint,
    uploadUrl: url,
    uploadSize: size,
    chunkSize: Number(chunk),
    uploadDataDuringCreation: true,
    retryDelays: [0, 100, 500],
    metadata: { filename: "bundle.tar" },
    onError(error) {
      console.error(String(error))
      process.exit(1)
    },
    onChunkComplete(_, accepted) {
      offsets.push(accepted)
      if (!aborted && accepted > size / 3) {
        aborted = true
        upload.abort().then(() => resume(upload.url))
      }
    },
    onSuccess() {
      console.log(JSON.stringify({ url: upload.url, resumed: aborted, offsets }))
    },
  })
  return upload
}

function resume(url) {
  const upload = open(url)
  upload.options.onShouldRetry = () => true
  fs.promises.open(path).then(() => upload.start())
}

open(null).start()
