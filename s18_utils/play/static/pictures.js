// The door for pictures in a browser: what a file is, read from its first bytes before anything decodes it.

const MOST_BYTES = 100e6;
const MOST_PIXELS = 120e6; // what the largest phones take
const LEAST_SIDE = 2; // pixels

const REMEDY = "choose a photograph as PNG, JPEG or WebP";

const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

/** Width and height of each kind of picture, from its header; null if the bytes are of another kind. */
const READERS = [
  (bytes, view) => (text(bytes, 1, 4) === "PNG" ? [view.getUint32(16), view.getUint32(20)] : null),
  (bytes, view) => (text(bytes, 0, 4) === "GIF8" ? [view.getUint16(6, true), view.getUint16(8, true)] : null),
  (bytes, view) => (text(bytes, 0, 2) === "BM" ? [view.getInt32(18, true), Math.abs(view.getInt32(22, true))] : null),
  (bytes, view) => (bytes[0] === 0xff && bytes[1] === 0xd8 ? readJpeg(bytes, view) : null),
  (bytes, view) => (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 12) === "WEBP" ? readWebp(bytes, view) : null),
  (bytes, view) => (text(bytes, 4, 8) === "ftyp" ? readBoxes(bytes, view) : null),
];

/** A JPEG's segments, up to the one that begins its frame. */
function readJpeg(bytes, view) {
  let at = 2;
  while (bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      return [view.getUint16(at + 7), view.getUint16(at + 5)];
    at += marker === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
  throw new RangeError("no frame");
}

function readWebp(bytes, view) {
  const kind = text(bytes, 12, 16);
  if (kind === "VP8X") return [24, 27].map((at) => 1 + (view.getUint32(at, true) & 0xffffff));
  if (kind === "VP8L") return [view.getUint32(21, true) & 0x3fff, (view.getUint32(21, true) >> 14) & 0x3fff].map((side) => side + 1);
  return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
}

/** AVIF and HEIC, which some browsers read: the largest of the images inside. */
function readBoxes(bytes, view) {
  let largest = [0, 0];
  for (let at = 8; at < Math.min(bytes.length - 16, 1 << 16); at++)
    if (text(bytes, at, at + 4) === "ispe") {
      const sides = [view.getUint32(at + 8), view.getUint32(at + 12)];
      if (sides[0] * sides[1] > largest[0] * largest[1]) largest = sides;
    }
  return largest[0] ? largest : null; // a film begins so too
}

/** Throws an Error, one sentence, unless the bytes begin as a picture of a size that can be worked on. */
function checkPicture(bytes) {
  let sides = null;
  try {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (const read of READERS) sides ??= read(bytes, view);
  } catch (error) {
    throw new Error(`this picture is cut short: ${REMEDY}`);
  }
  if (!sides && /^(\xef\xbb\xbf)?\s*</.test(text(bytes, 0, 256)))
    throw new Error(`this file is an SVG or a web page, which can hold programs: ${REMEDY}`);
  if (!sides) throw new Error(`this file is no picture that can be read here: ${REMEDY}`);
  const [width, height] = sides, size = `${width.toLocaleString("en")}×${height.toLocaleString("en")} pixels`;
  if (Math.min(width, height) < LEAST_SIDE)
    throw new Error(`a picture of ${size} is too small: choose one of ${LEAST_SIDE} pixels a side or more`);
  if (width * height > MOST_PIXELS) throw new Error(`a picture of ${size} is too large: choose one of 120 megapixels or less`);
}

/**
 * A file as an upright bitmap, the first frame of an animated one; an Error, one sentence, says what is wrong with it.
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>}
 */
export async function readPicture(file) {
  if (file.size > MOST_BYTES)
    throw new Error(`a file of ${Math.round(file.size / 1e6)} MB is too large: choose one of 100 MB or less`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  checkPicture(bytes);
  try {
    // Without a type: what the file's name says of it plays no part.
    return await createImageBitmap(new Blob([bytes]), { imageOrientation: "from-image" });
  } catch (error) {
    throw new Error(`this picture is damaged, or of a kind that this browser can't read: ${REMEDY}`);
  }
}

/** Draws a photograph; what is transparent is white, as the networks see it. */
export function drawPhoto(context, photo, width, height) {
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(photo, 0, 0, width, height);
}

const PRECISION = 2 ** 22; // of Pillow's weights

/** A row's or column's filter: for each wanted pixel where its triangle begins, and its weights. */
export function makeFilter(length, wanted) {
  const scale = length / wanted, reach = Math.max(scale, 1);
  return Array.from({ length: wanted }, (_, at) => {
    const centre = (at + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5)), last = Math.min(length, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: last - first }, (_, step) => Math.max(0, 1 - Math.abs((first + step - centre + 0.5) / reach)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => Math.round((weight / total) * PRECISION) / PRECISION) };
  });
}

const BAND = 256; // rows at a time: a phone's canvas can't hold its camera's pictures

/**
 * A bitmap squeezed to a square, antialiased, as Pillow's bilinear `resize` does it: along the rows, rounded, then along
 * the columns, rounded (newer ones take pictures twice as high as wide in the other order). What is transparent is white.
 * @returns {Uint8Array} 3 × size × size.
 */
export function squeezePicture(bitmap, size) {
  const { width, height } = bitmap, columns = makeFilter(width, size), narrow = new Uint8Array(height * size * 3);
  const canvas = new OffscreenCanvas(width, Math.min(BAND, height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < height; top += BAND) {
    const rows = Math.min(BAND, height - top);
    context.fillStyle = "white";
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, rows, 0, 0, width, rows);
    const { data } = context.getImageData(0, 0, width, rows);
    for (let row = 0; row < rows; row++)
      columns.forEach(({ first, weights }, column) => {
        let red = 0, green = 0, blue = 0, at = 4 * (row * width + first);
        for (let step = 0; step < weights.length; step++, at += 4) {
          red += weights[step] * data[at];
          green += weights[step] * data[at + 1];
          blue += weights[step] * data[at + 2];
        }
        const to = 3 * ((top + row) * size + column);
        narrow[to] = red + 0.5;
        narrow[to + 1] = green + 0.5;
        narrow[to + 2] = blue + 0.5;
      });
  }
  const square = new Uint8Array(3 * size * size);
  makeFilter(height, size).forEach(({ first, weights }, row) => {
    for (let column = 0; column < size; column++)
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let step = 0; step < weights.length; step++)
          sum += weights[step] * narrow[3 * ((first + step) * size + column) + channel];
        square[channel * size * size + row * size + column] = sum + 0.5;
      }
  });
  return square;
}
