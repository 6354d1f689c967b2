// fastify and pg, one INSERT a request: `node fastify.mjs PORT`.
import { createHmac, timingSafeEqual } from "node:crypto";
import Fastify from "fastify";
import pg from "pg";

const INSERT = `INSERT INTO transactions (user_id, amount, currency, description) VALUES ($1, $2, $3, $4)
  RETURNING id, user_id, amount, currency, description, inserted_at`;
const secret = process.env.BENCH_SECRET;
// The URL names a folder with the socket, which pg's own reading of URLs takes for a part of the name.
const url = new URL(process.env.DATABASE_URL.replace("@/", "@localhost/"));
const pool = new pg.Pool({
  user: url.username, password: decodeURIComponent(url.password), database: url.pathname.slice(1),
  host: url.searchParams.get("host"), port: Number(url.searchParams.get("port")),
});

function owner(authorization) {
  const [head, claims, signature] = (authorization ?? "").replace(/^Bearer /, "").split(".");
  const expected = createHmac("sha256", secret).update(`${head}.${claims}`).digest();
  const given = Buffer.from(signature ?? "", "base64url");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
  const { sub, exp } = JSON.parse(Buffer.from(claims, "base64url").toString());
  return exp > Date.now() / 1000 ? sub : null;
}

const app = Fastify();
app.get("/health", async () => ({ status: "ok" }));
app.post("/api/v1/transactions", async (request, reply) => {
  const user = owner(request.headers.authorization);
  if (user === null) return reply.code(401).send({ error: "unauthorized" });
  const { amount, currency, description } = request.body;
  const { rows } = await pool.query({ name: "insert", text: INSERT, values: [user, amount, currency, description] });
  return reply.code(201).send(rows[0]);
});
await app.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
