// The network between a device and the servers: a proxy that a storm cuts, slows down, and lets lose answers. It also
// serves the page, which is there without a network too, as an installed app is.
import http from 'node:http';
import net from 'node:net';

export interface Weather {
  /** No connection reaches a server. */
  isCut: boolean;
  delayMs: number;
  /** The answers to so many next flushes are lost after the server has them. */
  lostAnswers: number;
}

export class Network {
  readonly weather: Weather = { isCut: false, delayMs: 0, lostAnswers: 0 };
  readonly #open = new Set<net.Socket>();
  #requests = 0;
  #isOff = false;

  private constructor(private readonly listener: http.Server, private readonly servers: () => string[]) {}

  get url(): string {
    return `http://127.0.0.1:${(this.listener.address() as net.AddressInfo).port}`;
  }

  /** `files`: the content of each path that is not the server's. `servers`: the addresses that requests go to in turn. */
  static async open(files: Record<string, { type: string; body: string }>, servers: () => string[]): Promise<Network> {
    const listener = http.createServer((request, response) => {
      if (network.#isOff) return void request.socket.destroy();
      const file = files[request.url!.split('?')[0]!];
      if (file) response.writeHead(200, { 'content-type': file.type, 'cache-control': 'no-store' }).end(file.body);
      // A device that goes away in the middle of a request is what this is for.
      else network.#forward(request, response).catch(() => request.socket.destroy());
    });
    const network = new Network(listener, servers);
    listener.on('connection', (socket) => {
      network.#open.add(socket);
      socket.on('close', () => network.#open.delete(socket)).on('error', () => {});
    });
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    return network;
  }

  cut(): void {
    this.weather.isCut = true;
    for (const socket of this.#open) socket.destroy();
  }

  /** Switches everything off, the page too, as a device in the mountains. */
  stop(): void {
    this.#isOff = true;
    this.cut();
  }

  go(): void {
    this.#isOff = false;
    this.weather.isCut = false;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.listener.close(resolve));
  }

  async #forward(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    request.on('error', () => {});
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    await new Promise((resolve) => setTimeout(resolve, this.weather.delayMs));
    if (this.weather.isCut) return void request.socket.destroy();
    const loses = this.weather.lostAnswers > 0 && body.includes('applyMutations');
    if (loses) this.weather.lostAnswers -= 1;
    const servers = this.servers();
    const target = new URL(request.url!, servers[(this.#requests += 1) % servers.length]);
    const upstream = http.request(target, { method: request.method!, headers: request.headers }, (answer) => {
      if (loses) {
        answer.resume().on('end', () => request.socket.destroy()).on('error', () => request.socket.destroy());
        return;
      }
      response.writeHead(answer.statusCode!, answer.headers);
      answer.on('error', () => request.socket.destroy()).pipe(response);
    });
    upstream.on('error', () => request.socket.destroy());
    response.on('close', () => upstream.destroy());
    upstream.end(body);
  }
}
