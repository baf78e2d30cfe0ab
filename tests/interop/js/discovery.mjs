// An independent client for Tercet's live tests: a discv5 node of @chainsafe/discv5 on the
// loopback. It speaks the line protocol that tests/src/peer.rs describes.
//
// usage: node discovery.mjs CONFIG   (one JSON object)
//   key         secret key, 64 hex digits
//   listen      an address, or one of each family, with port 0 for any
//   bootnodes   records as text
import { Discv5, EntryStatus, UDPTransportService } from '@chainsafe/discv5'
import { ENR, SignableENR } from '@chainsafe/enr'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import { multiaddr } from '@multiformats/multiaddr'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv4 } from 'node:net'
import { createInterface } from 'node:readline'

// Long, so that a busy machine is no reason to fail.
const REPLY_TIMEOUT = 5_000
// How often the table is looked at by "await": it says that a node is in, not that it answered.
const TABLE_INTERVAL = 20

const config = JSON.parse(process.argv[2])
const say = (event, fields = {}) => console.log(JSON.stringify({ event, ...fields }))
const fail = (where) => (error) => say('error', { where, message: String(error?.message ?? error) })
process.on('uncaughtException', fail('uncaught'))
process.on('unhandledRejection', fail('rejection'))

const fromHex = (text) => Uint8Array.from(Buffer.from(text, 'hex'))
const toHex = (bytes) => Buffer.from(bytes).toString('hex')

// By family, as its transport names them.
const sockets = {}
const bindAddrs = {}
const entries = {}
for (const listen of config.listen) {
  const [, host, asked] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(listen)
  const [family, suffix] = isIPv4(host) ? ['ip4', ''] : ['ip6', '6']
  const socket = createSocket(family === 'ip4' ? 'udp4' : 'udp6')
  socket.bind(Number(asked), host)
  await once(socket, 'listening')
  const { port } = socket.address()
  sockets[family] = socket
  bindAddrs[family] = multiaddr(`/${family}/${host}/udp/${port}`)
  entries[`ip${suffix}`] = bindAddrs[family].tuples()[0][1]
  entries[`udp${suffix}`] = Uint8Array.from([port >> 8, port & 255])
}
const privateKey = privateKeyFromRaw(fromHex(config.key))
const enr = SignableENR.createV4(privateKey.raw, entries)
const transport = new UDPTransportService({ bindAddrs, nodeId: enr.nodeId })
// It would open sockets by itself, but cannot say which ports it got.
transport.start = async () => {
  for (const [family, socket] of Object.entries(sockets)) {
    socket.on('message', transport.handleIncoming)
    transport[family].socket = socket
  }
}
const discv5 = Discv5.create({ enr, privateKey, transport, config: { requestTimeout: REPLY_TIMEOUT } })
discv5.on('talkReqReceived', onTalk)
await discv5.start()
for (const bootnode of config.bootnodes ?? []) discv5.addEnr(bootnode)
say('up', { enr: discv5.enr.encodeTxt() })

const commands = createInterface({ input: process.stdin })
commands.on('line', async (line) => {
  const { call, ...command } = JSON.parse(line)
  try {
    say('done', { call, ...(await handle(command)) })
  } catch (error) {
    say('failed', { call, message: `${error?.code ?? ''} ${error?.message ?? error}` })
  }
})
commands.on('close', () => process.exit(0))

async function handle({ cmd, node, distances, protocol, payload, target, seq, name, value }) {
  switch (cmd) {
    case 'self':
      return { enr: discv5.enr.encodeTxt() }
    case 'set':
      discv5.enr.set(name, fromHex(value))
      return { enr: discv5.enr.encodeTxt() }
    case 'table':
      return { nodes: table() }
    case 'await':
      while (!table().some((entry) => entry.id === target && entry.live && entry.seq >= seq)) {
        await new Promise((done) => setTimeout(done, TABLE_INTERVAL))
      }
      return {}
    case 'lookup':
      return records(await discv5.findNode(target))
    case 'add':
      return discv5.addEnr(node), {}
    case 'ping': {
      const { enrSeq, addr } = await discv5.sendPing(ENR.decodeTxt(node))
      return { seq: Number(enrSeq), ip: ipText(addr.ip), port: addr.port }
    }
    case 'findnode':
      return records(await discv5.sendFindNode(ENR.decodeTxt(node), distances))
    case 'talk': {
      const response = await discv5.sendTalkReq(ENR.decodeTxt(node), Buffer.from(fromHex(payload)), protocol)
      return { payload: toHex(response) }
    }
    default:
      throw new Error(`no such command: ${cmd}`)
  }
}

function ipText({ octets }) {
  return octets.length === 4 ? octets.join('.') : toHex(octets).match(/.{4}/g).join(':')
}

// Says who asked, and what. It leaves even protocols that nobody speaks to its user.
function onTalk(from, _enr, { id, protocol, request }) {
  if (Buffer.from(protocol).toString() !== 'tercet') return discv5.sendTalkResp(from, id, new Uint8Array())
  say('talked', { from: from.nodeId, payload: toHex(request) })
  return discv5.sendTalkResp(from, id, Uint8Array.from([...fromHex(from.nodeId), ...request]))
}

function table() {
  return discv5.kbuckets.rawValues().map(({ value, status }) => ({
    id: value.nodeId,
    seq: Number(value.seq),
    live: status === EntryStatus.Connected,
  }))
}

function records(found) {
  return { nodes: found.map((enr) => enr.encodeTxt()), ids: found.map((enr) => enr.nodeId) }
}
