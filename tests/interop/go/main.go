// An independent client for Tercet's live tests: go-ethereum's RLPx server on a
// loopback port, driven over JSON lines; or its discovery alone, see discovery.go.
// It only does what it is told and says what it sees; what ought to happen is
// decided by the test that started it.
//
// usage: peer CONFIG   (one JSON object, see Config)
//
// Commands, one a line on standard input (its end stops the program):
//
//	{"cmd":"connect","enode":…}   {"cmd":"disconnect","id":…}
//	{"cmd":"echo","id":…,"size":n,"random":bool}                          {"cmd":"headers","id":…,"from":n,"count":n}
//
// Events, one a line on standard output: up, hello, dropped, echo, status, headers,
// transactions, error.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/netutil"
)

// Config is the program's argument.
type Config struct {
	Eth       *Chain     // the chain that eth/69 speaks of; without it eth is not offered
	Discovery *Discovery // only this, if it is there: see discovery.go
}

// Command is one line of standard input.
type Command struct {
	Cmd    string
	Enode  string
	ID     enode.ID
	Size   int
	Random bool
	From   uint64
	Count  uint64
}

var output sync.Mutex

// say prints one event; tests read them in order.
func say(event string, fields map[string]any) {
	line := map[string]any{"event": event}
	for name, value := range fields {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Printf("%s\n", text)
}

func complain(where string, err error) {
	say("error", map[string]any{"where": where, "message": err.Error()})
}

func main() {
	if err := run(); err != nil {
		complain("program", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: peer CONFIG")
	}
	var config Config
	if err := json.Unmarshal([]byte(os.Args[1]), &config); err != nil {
		return err
	}
	if config.Discovery != nil {
		return config.Discovery.run()
	}
	peers := newPeers()
	server, err := start(config, peers)
	if err != nil {
		return err
	}
	defer server.Stop()

	events := make(chan *p2p.PeerEvent, 64)
	subscription := server.SubscribeEvents(events)
	defer subscription.Unsubscribe()
	go report(server, events)

	say("up", map[string]any{
		"enode": server.Self().URLv4(), "id": server.Self().ID(), "enr": server.Self().String(),
	})
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	for input.Scan() {
		var command Command
		if err := json.Unmarshal(input.Bytes(), &command); err != nil {
			return err
		}
		// Each in its own goroutine: a lookup must not hold up a ping.
		go func() {
			if err := handle(server, peers, command); err != nil {
				complain(command.Cmd, err)
			}
		}()
	}
	return input.Err()
}

// start opens a free loopback port.
func start(config Config, peers *peers) (*p2p.Server, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	loopback, err := netutil.ParseNetlist("127.0.0.0/8")
	if err != nil {
		return nil, err
	}
	protocols := []p2p.Protocol{peers.echo()}
	if config.Eth != nil {
		protocol, err := config.Eth.protocol(peers)
		if err != nil {
			return nil, err
		}
		protocols = append(protocols, protocol)
	}
	// An empty source of candidates: it dials whom it is told to, nobody else.
	protocols[0].DialCandidates = enode.IterNodes(nil)
	server := &p2p.Server{Config: p2p.Config{
		PrivateKey:  key,
		Name:        "tercet-interop-go",
		MaxPeers:    16,
		NoDiscovery: true,
		NetRestrict: loopback,
		Protocols:   protocols,
		ListenAddr:  "127.0.0.1:0",
	}}
	return server, server.Start()
}

func handle(server *p2p.Server, peers *peers, command Command) error {
	switch command.Cmd {
	case "connect":
		node, err := enode.Parse(enode.ValidSchemes, command.Enode)
		if err != nil {
			return err
		}
		server.AddPeer(node)
	case "disconnect":
		for _, peer := range server.Peers() {
			if peer.ID() == command.ID {
				server.RemovePeer(peer.Node())
				peer.Disconnect(p2p.DiscQuitting)
			}
		}
	case "echo":
		return peers.sendEcho(command)
	case "headers":
		return peers.askHeaders(command)
	default:
		return fmt.Errorf("no such command: %q", command.Cmd)
	}
	return nil
}

// report turns the server's peer events into lines.
func report(server *p2p.Server, events <-chan *p2p.PeerEvent) {
	for event := range events {
		switch event.Type {
		case p2p.PeerEventTypeDrop:
			say("dropped", map[string]any{"id": event.Peer, "reason": event.Error})
		case p2p.PeerEventTypeAdd:
			for _, peer := range server.Peers() {
				if peer.ID() == event.Peer {
					say("hello", map[string]any{
						"id": peer.ID(), "client": peer.Fullname(), "inbound": peer.Inbound(),
						"capabilities": peer.Info().Caps,
					})
				}
			}
		}
	}
}
