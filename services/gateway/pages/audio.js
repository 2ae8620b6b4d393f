// The panel of speech and sounds: audio plays as it streams, and can be heard again.

import { events } from "/pages/api.js";
import { h } from "/pages/dom.js";
import { textArea } from "/pages/form.js";
import { makeWave, StreamPlayer } from "/pages/player.js";
import { bytesOf } from "/pages/toolbar.js";
import { joined, SoundReader, writeWav } from "/pages/wav.js";
import { makeWorkbench } from "/pages/workbench.js";

const PCM_RATE = 24000; // as the API says of `pcm`
const TYPES = {
  mp3: "audio/mpeg",
  opus: "audio/ogg",
  aac: "audio/aac",
  flac: "audio/flac",
  wav: "audio/wav",
  pcm: "audio/wav",
};

export function mount(place, context) {
  const isSpeech = context.task === "speech";
  const text = textArea(isSpeech ? "input" : "prompt", isSpeech ? "Text" : "Sound", { rows: 2 });
  let player = null;
  const bench = makeWorkbench(context, {
    label: isSpeech ? "Say it" : "Make it",
    content: [text.element],
    shown: ["voice", "n", "seed", "temperature", "seconds", "speed", "response_format"],
    hidden: ["input", "prompt", "stream_format", "instructions"],
    usual: { response_format: "wav" },
    body: () => (isSpeech ? { input: text.area.value } : { prompt: text.area.value, stream: true }),
    show,
  });
  place.replaceChildren(bench.element);

  async function show(response, body, { output, toolbar }) {
    const format = body.response_format ?? (isSpeech ? "mp3" : "wav");
    await player?.close();
    player = new StreamPlayer();
    const clips = Array.from({ length: body.n ?? 1 }, (_, index) =>
      makeClip(index, format, index === 0 ? player : null),
    );
    output.replaceChildren(
      h(
        "div",
        { class: "clips", "data-testid": "clips" },
        clips.map((clip) => clip.element),
      ),
    );
    const files = [];
    const ended = (clip, told) => {
      files.push(clip.end(told));
      toolbar.offers(files);
    };
    if (isSpeech) {
      for await (const bytes of response.body) clips[0].push(bytes);
      ended(clips[0], "Speech");
      return;
    }
    for await (const event of events(response)) {
      if (event.type.endsWith(".delta")) clips[event.index].push(bytesOf(event.audio));
      else ended(clips[event.index], `${event.seconds.toFixed(2)} s, seed ${event.seed}`);
    }
  }

  return () => {
    bench.stop();
    player?.close();
  };
}

// One sound: drawn and, the first of an answer, played as it comes; then an audio element of its file.
function makeClip(index, format, player) {
  const isRead = format === "wav" || format === "pcm";
  const reader = new SoundReader(format === "pcm" ? PCM_RATE : 0);
  const wave = makeWave(`Wave of sound ${index + 1}`);
  const audio = h("audio", { controls: true, "aria-label": `Sound ${index + 1}`, "data-testid": "audio" });
  const caption = h("figcaption", {}, `Sound ${index + 1}`);
  const parts = [];
  let samples = new Float32Array();

  function push(bytes) {
    parts.push(bytes);
    if (!isRead) return;
    const fresh = reader.push(bytes);
    samples = joined([samples, fresh]);
    wave.draw(samples);
    player?.play(fresh, reader.rate);
  }

  // The file, whose header of a WAV knows its length now.
  function end(told) {
    caption.textContent = told;
    const blob = isRead ? writeWav(samples, reader.rate || PCM_RATE) : new Blob(parts, { type: TYPES[format] });
    audio.src = URL.createObjectURL(blob);
    if (!isRead && index === 0) audio.play().catch(() => {});
    return { name: `sound-${index + 1}.${isRead ? "wav" : format}`, blob };
  }

  return { element: h("figure", { class: "clip" }, wave.element, audio, caption), push, end };
}
