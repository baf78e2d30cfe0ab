// An independent client for Tercet's live tests: the discv4 table and the RLPx server of
// @ethereumjs/devp2p on one loopback port, driven over JSON lines. It only does what it is told
// and says what it sees; what ought to happen is decided by the test that started it.
//
// usage: node peer.mjs CONFIG   (one JSON object)
//   genesis      geth's genesis.json as an object       genesisHash  0x…
//   hardfork     the fork active at the head            bestHash     0x…   td  0x…
// Commands, one a line on standard input (its end stops the program):
//   {"cmd":"bootstrap","enode":…}   {"cmd":"table"}   {"cmd":"connect","enode":…}
//   {"cmd":"send","id":…,"code":n,"payload":nested arrays of 0x…}   {"cmd":"disconnect","id":…}
// Events, one a line on standard output: up, added, removed, bonded, table, hello, status, message,
// disconnected, error.
import { createCommonFromGethGenesis } from '@ethereumjs/common'
import { DPT, ETH, RLPx } from '@ethereumjs/devp2p'
import { bigIntToBytes, bytesToHex, bytesToUnprefixedHex, hexToBytes } from '@ethereumjs/util'
import { randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'

const HOST = '127.0.0.1'
const config = JSON.parse(process.argv[2])
const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }))
const fail = (where) => (error) => say('error', { where, message: String(error?.message ?? error) })
process.on('uncaughtException', fail('uncaught'))
process.on('unhandledRejection', fail('rejection'))

const { port, udp } = await bindUdp()
const key = new Uint8Array(randomBytes(32))
const common = createCommonFromGethGenesis(config.genesis, {
  chain: 'tercet',
  genesisHash: hexToBytes(config.genesisHash),
  hardfork: config.hardfork,
})
const dpt = new DPT(key, {
  endpoint: { address: HOST, udpPort: port, tcpPort: port },
  refreshInterval: 10_000,
  createSocket: () => udp,
})
// Without the table, so that it connects only when told to.
const rlpx = new RLPx(key, { common, capabilities: [ETH.eth68], listenPort: port })

dpt.events.on('peer:added', (peer) => say('added', describe(peer)))
dpt.events.on('peer:removed', (peer) => say('removed', describe(peer)))
dpt.events.on('error', fail('discv4'))
rlpx.events.on('error', fail('rlpx'))
rlpx.events.on('peer:error', (_peer, error) => fail('peer')(error))
rlpx.events.on('peer:added', onPeer)
rlpx.events.on('peer:removed', (peer, reason, byUs) =>
  say('disconnected', { id: bytesToUnprefixedHex(peer.getId()), reason, byUs: byUs === true }),
)
rlpx.listen(port, HOST)
await once(rlpx._server, 'listening')
say('up', { enode: `enode://${bytesToUnprefixedHex(rlpx.id)}@${HOST}:${port}` })

const commands = createInterface({ input: process.stdin })
commands.on('line', (line) => {
  try {
    handle(JSON.parse(line))
  } catch (error) {
    fail('command')(error)
  }
})
commands.on('close', () => process.exit(0))

function handle({ cmd, enode, id, code, payload }) {
  switch (cmd) {
    case 'bootstrap':
      return dpt.bootstrap(parse(enode)).then(() => say('bonded', { enode }), fail(cmd))
    case 'table':
      return say('table', { nodes: dpt.getPeers().map(describe) })
    case 'connect':
      return rlpx.connect(parse(enode)).catch(fail(cmd))
    case 'send':
      return eth(id).sendMessage(code, toBytes(payload))
    case 'disconnect':
      return rlpx.disconnect(hexToBytes('0x' + id))
    default:
      throw new Error(`no such command: ${cmd}`)
  }
}

function onPeer(peer) {
  const id = bytesToUnprefixedHex(peer.getId())
  const hello = peer.getHelloMessage()
  say('hello', {
    id,
    version: hello.protocolVersion,
    client: hello.clientId,
    capabilities: hello.capabilities.map(({ name, version }) => `${name}/${version}`),
    shared: peer.getProtocols().map((protocol) => protocol.getVersion()),
  })
  const [protocol] = peer.getProtocols()
  protocol.events.on('status', (status) =>
    say('status', {
      id,
      networkId: bytesToHex(status.chainId),
      genesisHash: bytesToHex(status.genesisHash),
      bestHash: bytesToHex(status.bestHash),
      forkId: status.forkId.map((part) => bytesToHex(part)),
    }),
  )
  protocol.events.on('message', (code, payload) =>
    say('message', { id, code, payload: toHex(payload) }),
  )
  protocol.sendStatus({
    // In RLP a zero is no bytes at all.
    td: BigInt(config.td) === 0n ? new Uint8Array() : bigIntToBytes(BigInt(config.td)),
    bestHash: hexToBytes(config.bestHash),
    genesisHash: hexToBytes(config.genesisHash),
  })
}

function eth(id) {
  const peer = rlpx.getPeers().find((peer) => bytesToUnprefixedHex(peer.getId()) === id)
  if (peer === undefined) throw new Error(`not connected to ${id}`)
  return peer.getProtocols()[0]
}

function parse(enode) {
  const url = new URL(enode)
  const tcpPort = Number(url.port)
  return {
    id: hexToBytes('0x' + url.username),
    address: url.hostname,
    tcpPort,
    udpPort: Number(url.searchParams.get('discport') ?? tcpPort),
  }
}

function describe(peer) {
  const { id, address, udpPort, tcpPort } = peer
  return { id: bytesToUnprefixedHex(id), address, udp: udpPort, tcp: tcpPort }
}

function toBytes(item) {
  return Array.isArray(item) ? item.map(toBytes) : hexToBytes(item)
}

function toHex(item) {
  return Array.isArray(item) ? item.map(toHex) : bytesToHex(item)
}

// A port that is free for UDP and TCP alike. The UDP socket stays bound; TCP is tried and let go,
// because the RLPx server opens its own.
async function bindUdp() {
  for (;;) {
    const udp = createSocket('udp4')
    udp.bind(0, HOST)
    await once(udp, 'listening')
    const { port } = udp.address()
    const tcp = createServer()
    const free = await new Promise((done) => {
      tcp.once('error', () => done(false))
      tcp.listen(port, HOST, () => tcp.close(() => done(true)))
    })
    if (free) return { port, udp }
    udp.close()
  }
}
