// The table of tasks: what each is called, which operation answers it, and which panel shows it.

const values = () => import("/pages/values.js");
const drawings = () => import("/pages/images.js");
const sounds = () => import("/pages/audio.js");

export const TASKS = {
  chat: { title: "Chat", path: "/v1/chat/completions", load: () => import("/pages/chat.js") },
  completion: { title: "Completion", path: "/v1/completions", load: () => import("/pages/completion.js") },
  image: { title: "Draw", path: "/v1/images/generations", load: drawings },
  edit: { title: "Edit", path: "/v1/images/edits", load: drawings },
  variation: { title: "Vary", path: "/v1/images/variations", load: drawings },
  interpolation: { title: "Interpolate", path: "/v1/interpolations", load: () => import("/pages/interpolation.js") },
  score: { title: "Likelihood", path: "/v1/scores", load: values, ofImages: () => import("/pages/likelihood.js") },
  reconstruction: {
    title: "Reconstruct",
    path: "/v1/reconstructions",
    load: values,
    ofImages: () => import("/pages/likelihood.js"),
  },
  speech: { title: "Speech", path: "/v1/audio/speech", load: sounds },
  sound: { title: "Sounds", path: "/v1/audio/generations", load: sounds },
  music: { title: "Music", path: "/v1/music/generations", load: () => import("/pages/music.js") },
  molecule: { title: "Molecules", path: "/v1/molecules/generations", load: () => import("/pages/molecules.js") },
  record: { title: "Records", path: "/v1/records/generations", load: () => import("/pages/records.js") },
  level: { title: "Levels", path: "/v1/levels/generations", load: () => import("/pages/levels.js") },
  forecast: { title: "Forecast", path: "/v1/forecasts", load: () => import("/pages/forecast.js") },
  embedding: { title: "Embedding", path: "/v1/embeddings", load: values },
  tokenize: { title: "Tokens", path: "/tokenize", load: values },
  detokenize: { title: "Text of tokens", path: "/detokenize", load: values },
};

export function tasksOf(card) {
  return card.tasks.filter((task) => task in TASKS);
}

export function seesImages(card) {
  return card.modalities.includes("image") || card.tasks.includes("image");
}
