package main

import (
	"bytes"
	"errors"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/protocols/eth"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rlp"
)

// eth/69 has 18 message codes.
const eth69Length = 18

// Chain is what Status speaks of. Hashes and the fork id are worked out here, by
// go-ethereum, from the headers and the fork schedule.
type Chain struct {
	NetworkID uint64
	Forks     params.ChainConfig // the "config" of a genesis.json
	Genesis   hexutil.Bytes      // header, RLP
	Head      hexutil.Bytes      // header, RLP
	Earliest  uint64

	genesis *types.Block
	head    *types.Header
}

// view makes a Chain what the fork id filter asks for.
type view struct{ *Chain }

func (v view) Config() *params.ChainConfig  { return &v.Forks }
func (v view) Genesis() *types.Block        { return v.genesis }
func (v view) CurrentHeader() *types.Header { return v.head }

func (c *Chain) protocol(peers *peers) (p2p.Protocol, error) {
	var genesis types.Header
	if err := rlp.DecodeBytes(c.Genesis, &genesis); err != nil {
		return p2p.Protocol{}, err
	}
	c.genesis = types.NewBlockWithHeader(&genesis)
	c.head = new(types.Header)
	if err := rlp.DecodeBytes(c.Head, c.head); err != nil {
		return p2p.Protocol{}, err
	}
	return p2p.Protocol{
		Name:    eth.ProtocolName,
		Version: eth.ETH69,
		Length:  eth69Length,
		Run: func(peer *p2p.Peer, rw p2p.MsgReadWriter) error {
			return c.run(peers, peer, rw)
		},
	}, nil
}

// tap shows the Status that passes, because the handshake keeps it to itself.
type tap struct {
	p2p.MsgReadWriter
	status *eth.StatusPacket
}

func (t *tap) ReadMsg() (p2p.Msg, error) {
	message, err := t.MsgReadWriter.ReadMsg()
	if err != nil || message.Code != eth.StatusMsg {
		return message, err
	}
	var raw rlp.RawValue
	if err := message.Decode(&raw); err != nil {
		return message, err
	}
	t.status = new(eth.StatusPacket)
	if err := rlp.DecodeBytes(raw, t.status); err != nil {
		return message, err
	}
	message.Payload = bytes.NewReader(raw)
	return message, nil
}

func (c *Chain) run(peers *peers, p *p2p.Peer, rw p2p.MsgReadWriter) error {
	tapped := &tap{MsgReadWriter: rw}
	peer := eth.NewPeer(eth.ETH69, p, tapped, nil, nil, &c.Forks)
	defer peer.Close()
	err := peer.Handshake(c.NetworkID, view{c}, eth.BlockRangeUpdatePacket{
		EarliestBlock:   c.Earliest,
		LatestBlock:     c.head.Number.Uint64(),
		LatestBlockHash: c.head.Hash(),
	})
	if err != nil {
		complain("status", err)
		return err
	}
	defer peers.enter("eth", p.ID(), rw)()
	say("status", map[string]any{
		"id": p.ID(), "version": tapped.status.ProtocolVersion, "networkId": tapped.status.NetworkID,
		"genesis": tapped.status.Genesis, "forkHash": hexutil.Bytes(tapped.status.ForkID.Hash[:]),
		"forkNext": tapped.status.ForkID.Next, "earliest": tapped.status.EarliestBlock,
		"latest": tapped.status.LatestBlock, "latestHash": tapped.status.LatestBlockHash,
	})
	for {
		message, err := rw.ReadMsg()
		if err != nil {
			return err
		}
		switch message.Code {
		case eth.BlockHeadersMsg:
			if err := reportHeaders(p, message); err != nil {
				complain("headers", err)
				return err
			}
		case eth.TransactionsMsg:
			if err := reportTransactions(p, message); err != nil {
				complain("transactions", err)
				return err
			}
		}
		if err := message.Discard(); err != nil {
			return err
		}
	}
}

// askHeaders asks a peer for consecutive headers, oldest first.
func (p *peers) askHeaders(command Command) error {
	return p2p.Send(p.writer("eth", command.ID), eth.GetBlockHeadersMsg, &eth.GetBlockHeadersPacket{
		RequestId: 7,
		GetBlockHeadersRequest: &eth.GetBlockHeadersRequest{
			Origin: eth.HashOrNumber{Number: command.From},
			Amount: command.Count,
		},
	})
}

func reportHeaders(p *p2p.Peer, message p2p.Msg) error {
	var answer eth.BlockHeadersPacket
	if err := message.Decode(&answer); err != nil {
		return err
	}
	if answer.RequestId != 7 {
		return errors.New("an answer to a request that was not made")
	}
	headers, err := answer.List.Items()
	if err != nil {
		return err
	}
	hashes := []any{}
	for _, header := range headers {
		hashes = append(hashes, header.Hash())
	}
	say("headers", map[string]any{"id": p.ID(), "hashes": hashes})
	return nil
}

// reportTransactions tells of transactions sent whole; their senders are recovered here.
func reportTransactions(p *p2p.Peer, message p2p.Msg) error {
	var packet eth.TransactionsPacket
	if err := message.Decode(&packet); err != nil {
		return err
	}
	txs, err := packet.Items()
	if err != nil {
		return err
	}
	hashes, senders := []any{}, []any{}
	for _, tx := range txs {
		sender, err := types.Sender(types.LatestSignerForChainID(tx.ChainId()), tx)
		if err != nil {
			return err
		}
		hashes, senders = append(hashes, tx.Hash()), append(senders, sender)
	}
	say("transactions", map[string]any{"id": p.ID(), "hashes": hashes, "senders": senders})
	return nil
}
