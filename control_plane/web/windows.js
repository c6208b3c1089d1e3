// Stretches of time that pages offer, how wide a point of each is, and how often it is worth asking again.
export const WINDOWS = {
  "15m": { title: "15 min", step: "10s", seconds: 10 },
  "1h": { title: "1 h", step: "30s", seconds: 20 },
  "6h": { title: "6 h", step: "2m", seconds: 60 },
  "24h": { title: "24 h", step: "10m", seconds: 120 },
  "7d": { title: "7 d", step: "1h", seconds: 300 },
  "30d": { title: "30 d", step: "6h", seconds: 600 },
};
