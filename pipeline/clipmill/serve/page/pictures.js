// A picture that is dropped, pasted or chosen, as the service takes it.

const MOST_BYTES = 10_000_000;
const SIDE = 1024;

/** Calls `onPicture(base64, name, uri)` for each picture that somebody hands to the page. */
export function listen(box, input, onPicture, onProblem) {
  const take = async (file) => {
    if (!file) return;
    try {
      const blob = file.size > MOST_BYTES ? await smaller(file) : file;
      onPicture(base64(await blob.arrayBuffer()), file.name || "a picture", await uriOf(file));
    } catch {
      onProblem("This file is no picture that the browser can read.");
    }
  };
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = "";
  });
  document.addEventListener("paste", (event) => take(pictureIn(event.clipboardData)));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
  document.addEventListener("dragleave", () => box.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    take(pictureIn(event.dataTransfer));
  });
}

function pictureIn(data) {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith("image/"));
}

function base64(buffer) {
  const bytes = new Uint8Array(buffer);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

async function drawn(file, side) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

async function smaller(file) {
  const canvas = await drawn(file, SIDE);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

async function uriOf(file) {
  return (await drawn(file, 96)).toDataURL("image/jpeg", 0.8);
}
