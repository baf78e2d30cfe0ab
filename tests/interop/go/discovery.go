package main

import (
	"bufio"
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"time"
	"unsafe"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/discover"
	"github.com/ethereum/go-ethereum/p2p/discover/v4wire"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/enr"
)

// Fast, so that a table knows soon who is alive: only those are told to others.
const checkInterval = 100 * time.Millisecond

// Long, so that a busy machine is no reason to fail.
const replyTimeout = 5 * time.Second

// How often the table is looked at by "await": go-ethereum tells nobody of a check.
const tableInterval = 20 * time.Millisecond

// Discovery is the configuration of a node that only discovers, over discv5,
// discv4 or both on one socket, as geth's own server composes them. It speaks the
// line protocol that tests/src/peer.rs describes.
type Discovery struct {
	Key       string           // secret key, 64 hex digits
	Listen    []netip.AddrPort // one, with port 0 for any
	Protocols []string
	Bootnodes []string
}

// Call is one line of standard input.
type Call struct {
	Call      uint64
	Cmd       string
	Over      string
	Node      string
	Distances []uint
	Protocol  string
	Payload   string
	Target    string
	Seq       uint64
	Name      string
	Value     string
}

type discoverer struct {
	local *enode.LocalNode
	v4    *discover.UDPv4
	v5    *discover.UDPv5
}

func (d Discovery) run() error {
	node, err := d.start()
	if err != nil {
		return err
	}
	if node.v4 != nil {
		awaitTable(node.v4)
	}
	if node.v5 != nil {
		awaitTable(node.v5)
	}
	say("up", map[string]any{"enr": node.local.Node().String(), "enode": node.local.Node().URLv4()})
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	for input.Scan() {
		var call Call
		if err := json.Unmarshal(input.Bytes(), &call); err != nil {
			return err
		}
		// Each in its own goroutine: a lookup must not hold up a ping.
		go func() {
			answer, err := node.handle(call)
			if err != nil {
				say("failed", map[string]any{"call": call.Call, "message": err.Error()})
				return
			}
			answer["call"] = call.Call
			say("done", answer)
		}()
	}
	return input.Err()
}

func (d Discovery) start() (*discoverer, error) {
	key, err := crypto.HexToECDSA(d.Key)
	if err != nil {
		return nil, err
	}
	config := discover.Config{
		PrivateKey: key, PingInterval: checkInterval, V5RespTimeout: replyTimeout,
	}
	for _, text := range d.Bootnodes {
		node, err := enode.Parse(enode.ValidSchemes, text)
		if err != nil {
			return nil, err
		}
		config.Bootnodes = append(config.Bootnodes, node)
	}
	if len(d.Listen) != 1 {
		return nil, fmt.Errorf("one socket, not %d", len(d.Listen))
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(d.Listen[0]))
	if err != nil {
		return nil, err
	}
	db, err := enode.OpenDB("")
	if err != nil {
		return nil, err
	}
	node := &discoverer{local: enode.NewLocalNode(db, key)}
	node.local.SetStaticIP(d.Listen[0].Addr().AsSlice())
	node.local.SetFallbackUDP(conn.LocalAddr().(*net.UDPAddr).Port)

	// What discv4 cannot read is discv5's.
	var v5conn discover.UDPConn = conn
	for _, protocol := range d.Protocols {
		switch protocol {
		case "v4":
			v4config := config
			shared := &discover.SharedUDPConn{UDPConn: conn, Unhandled: make(chan discover.ReadPacket, 100)}
			v4config.Unhandled, v5conn = shared.Unhandled, shared
			if node.v4, err = discover.ListenV4(conn, node.local, v4config); err != nil {
				return nil, err
			}
		case "v5":
			if node.v5, err = discover.ListenV5(v5conn, node.local, config); err != nil {
				return nil, err
			}
			node.v5.RegisterTalkHandler("tercet", answerTalk)
		default:
			return nil, fmt.Errorf("no such protocol: %q", protocol)
		}
	}
	return node, nil
}

// awaitTable waits for the first refresh of a *UDPv4's or *UDPv5's table. Until then
// the table takes in nobody who comes by himself, and over discv5 he is offered to
// it once, at the handshake. Nothing of go-ethereum's own says when that is.
func awaitTable(transport any) {
	done := reflect.ValueOf(transport).Elem().FieldByName("tab").Elem().FieldByName("initDone")
	reflect.NewAt(done.Type(), unsafe.Pointer(done.UnsafeAddr())).Elem().Recv()
}

// answerTalk says who asked, and what.
func answerTalk(from *enode.Node, _ *net.UDPAddr, request []byte) []byte {
	say("talked", map[string]any{"from": from.ID(), "payload": hex.EncodeToString(request)})
	return append(from.ID().Bytes(), request...)
}

type answer = map[string]any

func (d *discoverer) handle(call Call) (answer, error) {
	switch call.Cmd {
	case "self":
		return answer{"enr": d.local.Node().String()}, nil
	case "set":
		value, err := hex.DecodeString(call.Value)
		if err != nil {
			return nil, err
		}
		d.local.Set(enr.WithEntry(call.Name, value))
		return answer{"enr": d.local.Node().String()}, nil
	case "table":
		return answer{"nodes": d.table(call.Over)}, nil
	case "await":
		for !d.live(call) {
			time.Sleep(tableInterval)
		}
		return answer{}, nil
	case "lookup":
		return d.lookup(call)
	}
	node, err := enode.Parse(enode.ValidSchemes, call.Node)
	if err != nil {
		return nil, err
	}
	if call.Over == "v4" {
		return d.handleV4(call, node)
	}
	switch call.Cmd {
	case "add":
		d.v5.AddKnownNode(node)
		return answer{}, nil
	case "ping":
		pong, err := d.v5.Ping(node)
		if err != nil {
			return nil, err
		}
		return answer{"seq": pong.ENRSeq, "ip": pong.ToIP.String(), "port": pong.ToPort}, nil
	case "findnode":
		nodes, err := d.v5.Findnode(node, call.Distances)
		return records(nodes), err
	case "talk":
		payload, err := hex.DecodeString(call.Payload)
		if err != nil {
			return nil, err
		}
		response, err := d.v5.TalkRequest(node, call.Protocol, payload)
		return answer{"payload": hex.EncodeToString(response)}, err
	}
	return nil, fmt.Errorf("no such command: %q", call.Cmd)
}

func (d *discoverer) handleV4(call Call, node *enode.Node) (answer, error) {
	switch call.Cmd {
	case "ping":
		pong, err := d.v4.Ping(node)
		if err != nil {
			return nil, err
		}
		return answer{"seq": pong.ENRSeq, "ip": pong.To.IP.String(), "port": pong.To.UDP}, nil
	case "record":
		record, err := d.v4.RequestENR(node)
		return records([]*enode.Node{record}), err
	}
	return nil, fmt.Errorf("no such command over discv4: %q", call.Cmd)
}

// lookup asks for a node id over discv5 and for a public key over discv4.
func (d *discoverer) lookup(call Call) (answer, error) {
	if call.Over == "v4" {
		key, err := parseKey(call.Target)
		if err != nil {
			return nil, err
		}
		return records(d.v4.LookupPubkey(key)), nil
	}
	target, err := enode.ParseID(call.Target)
	if err != nil {
		return nil, err
	}
	if d.v5 == nil {
		return nil, errors.New("discv5 is off")
	}
	return records(d.v5.Lookup(target)), nil
}

func (d *discoverer) buckets(over string) [][]discover.BucketNode {
	if over == "v4" {
		return d.v4.TableBuckets()
	}
	return d.v5.Nodes()
}

func (d *discoverer) table(over string) []answer {
	nodes := []answer{}
	for _, bucket := range d.buckets(over) {
		for _, entry := range bucket {
			nodes = append(nodes, answer{"id": entry.Node.ID(), "live": entry.Live})
		}
	}
	return nodes
}

func (d *discoverer) live(call Call) bool {
	for _, bucket := range d.buckets(call.Over) {
		for _, entry := range bucket {
			if entry.Node.ID().String() == call.Target && entry.Live && entry.Node.Seq() >= call.Seq {
				return true
			}
		}
	}
	return false
}

func records(nodes []*enode.Node) answer {
	texts, ids := []string{}, []enode.ID{}
	for _, node := range nodes {
		if node != nil {
			texts, ids = append(texts, node.String()), append(ids, node.ID())
		}
	}
	return answer{"nodes": texts, "ids": ids}
}

func parseKey(text string) (*ecdsa.PublicKey, error) {
	var key v4wire.Pubkey
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if copy(key[:], raw) != len(key) || len(raw) != len(key) {
		return nil, fmt.Errorf("a key has %d bytes, not %d", len(key), len(raw))
	}
	return v4wire.DecodePubkey(crypto.S256(), key)
}
