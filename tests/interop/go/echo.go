package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"sync"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
)

// The messages of echo/1: whoever gets a request sends the same bytes back.
const (
	echoRequest = 0
	echoReply   = 1
	echoLength  = 2
)

// peers remembers where to write to each connected peer, by protocol.
type peers struct {
	mutex   sync.Mutex
	entered *sync.Cond
	writers map[string]map[enode.ID]p2p.MsgReadWriter
}

func newPeers() *peers {
	p := &peers{writers: map[string]map[enode.ID]p2p.MsgReadWriter{"echo": {}, "eth": {}}}
	p.entered = sync.NewCond(&p.mutex)
	return p
}

// enter keeps a peer's writer until the returned function is called.
func (p *peers) enter(protocol string, id enode.ID, rw p2p.MsgReadWriter) func() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.writers[protocol][id] = rw
	p.entered.Broadcast()
	return func() {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		delete(p.writers[protocol], id)
	}
}

// writer waits until the protocol runs with the peer: a connection is reported
// before its protocols have started, and whoever heard of it may already ask. How
// long that may take is the business of the test.
func (p *peers) writer(protocol string, id enode.ID) p2p.MsgReadWriter {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for {
		if rw, ok := p.writers[protocol][id]; ok {
			return rw
		}
		p.entered.Wait()
	}
}

func (p *peers) echo() p2p.Protocol {
	return p2p.Protocol{
		Name:    "echo",
		Version: 1,
		Length:  echoLength,
		Run: func(peer *p2p.Peer, rw p2p.MsgReadWriter) error {
			defer p.enter("echo", peer.ID(), rw)()
			say("echo", map[string]any{"id": peer.ID(), "step": "ready"})
			for {
				message, err := rw.ReadMsg()
				if err != nil {
					return err
				}
				payload, err := io.ReadAll(message.Payload)
				if err != nil {
					return err
				}
				step := "asked"
				if message.Code == echoReply {
					step = "answered"
				} else if err := send(rw, echoReply, payload); err != nil {
					return err
				}
				say("echo", map[string]any{
					"id": peer.ID(), "step": step, "size": len(payload), "hash": crypto.Keccak256Hash(payload),
				})
			}
		},
	}
}

// sendEcho sends bytes of the wanted size: random ones, which snappy cannot make
// smaller, or ones that repeat.
func (p *peers) sendEcho(command Command) error {
	if command.Size < 0 {
		return errors.New("a negative size")
	}
	rw := p.writer("echo", command.ID)
	payload := bytes.Repeat([]byte("tercet"), command.Size/6+1)[:command.Size]
	if command.Random {
		rand.Read(payload)
	}
	say("echo", map[string]any{
		"id": command.ID, "step": "sent", "size": len(payload), "hash": crypto.Keccak256Hash(payload),
	})
	return send(rw, echoRequest, payload)
}

func send(rw p2p.MsgReadWriter, code uint64, payload []byte) error {
	return rw.WriteMsg(p2p.Msg{Code: code, Size: uint32(len(payload)), Payload: bytes.NewReader(payload)})
}
