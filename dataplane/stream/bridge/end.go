package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/reason"
)

// Reason is why a bridge ended.
type Reason string

// Reasons.
const (
	// CallEnded means that Exotel sent stop, or closed its socket.
	CallEnded Reason = "call_ended"
	// AgentClosed means that the agent closed its socket on purpose. Exotel's flow goes on.
	AgentClosed Reason = "agent_closed"
	// AgentLost means that the agent's connection broke, and did not come back. Exotel's flow goes on.
	AgentLost Reason = "agent_lost"
	// ExotelLost means that Exotel's connection broke without stop or close.
	ExotelLost Reason = "exotel_lost"
	// Slow means that a side did not read for longer than it may, or read so slowly that control frames piled up.
	Slow Reason = "slow"
	// SlowSender is the reason of a side that took longer than 10 s to send one message.
	SlowSender Reason = "slow_sender"
	// NoMemory is the reason of a side that needed more of the memory that streams share than there was.
	NoMemory Reason = "no_memory"
	// ProtocolError means that a side broke RFC 6455, sent data outside its protocol, or sent too much.
	ProtocolError Reason = "protocol_error"
	// Drained means that the pod is shutting down.
	Drained Reason = "drained"
	// Suspended means that the tenant was suspended or deleted.
	Suspended Reason = "suspended"
	// Closed means that a person closed the stream.
	Closed Reason = "closed"
	// Orphaned means that the stream's row had ended, because its pod could not reach the database for too long.
	Orphaned Reason = reason.StreamOrphaned
	// Limit means that the stream was longer than any call may be.
	Limit Reason = "limit"
)

// Reasons are all of them, for metrics.
func Reasons() []Reason {
	return []Reason{
		CallEnded, AgentClosed, AgentLost, ExotelLost, Slow, SlowSender, NoMemory, ProtocolError,
		Drained, Suspended, Closed, Orphaned, Limit,
	}
}

// Side is one of the two peers.
type Side string

// Sides.
const (
	exotelSide Side = "exotel"
	agentSide  Side = "agent"
)

// End is how a bridge ended.
type End struct {
	Reason Reason
	// Side is the peer that brought the end about; empty if we did.
	Side Side
	// Code is the close code of that peer; 0 if it sent none.
	Code int
	// Err is what broke, where something did. It holds nothing that a peer sent, except the text of its close frame.
	Err error
	// Start is what Exotel told of the stream.
	Start agentstream.StartInfo
	// Reconnected tells that a second connection to the agent was made.
	Reconnected       bool
	ToAgent, ToExotel Counts
	// Oddities of all frames of both sides, by the index of their bit.
	Oddities [agentstream.Oddities]uint32
}

// Cut is a cause to cancel a bridge's context with. Any other cause is Drained, with 1001.
type Cut struct {
	Reason Reason
	Code   int // for both sides; 1001 if it is 0
}

// Error tells the reason.
func (c *Cut) Error() string { return "audio: cut off: " + string(c.Reason) }

// cutOf returns the end that the context's cause asks for: that of a Cut, else Drained.
func cutOf(ctx context.Context) verdict {
	v := verdict{reason: Drained, exotelCode: websocket.CloseGoingAway, agentCode: websocket.CloseGoingAway}
	if cut := (*Cut)(nil); errors.As(context.Cause(ctx), &cut) {
		v.reason = cut.Reason
		if cut.Code != 0 {
			v.exotelCode = cut.Code
			v.agentCode = cut.Code
		}
	}
	return v
}

// verdict is an end with the codes that the sides are told.
type verdict struct {
	reason                Reason
	side                  Side
	code                  int // that the side sent
	err                   error
	exotelCode, agentCode int
}

// Toward Exotel an end that the agent brought about is a normal one, so that its flow goes on to the next applet.
func exotelEnded(err error) verdict {
	v := judge(err, ExotelLost)
	v.side = exotelSide
	v.exotelCode = ownCode(err)
	v.agentCode = websocket.CloseNormalClosure
	if v.reason != CallEnded {
		v.agentCode = websocket.CloseGoingAway
	}
	return v
}

// agentEnded returns the end for an error of the agent's connection. Exotel gets a normal closure in any case, so that
// its flow goes on.
func agentEnded(err error) verdict {
	v := judge(err, AgentLost)
	if v.reason == CallEnded {
		v.reason = AgentClosed
	}
	v.side = agentSide
	v.exotelCode = websocket.CloseNormalClosure
	v.agentCode = ownCode(err)
	return v
}

var errMalformed = errors.New("audio: the peer sends frames that are not its protocol")

// judge finds what an error of a peer's connection means; lost is what a broken connection is.
func judge(err error, lost Reason) verdict {
	v := verdict{err: err}
	var closed *websocket.CloseError
	var system syscall.Errno
	var network net.Error
	switch {
	case errors.As(err, &closed):
		v.code = closed.Code
		v.reason = reasonOfCode(closed.Code, lost)
	case errors.Is(err, errSlow):
		v.reason = Slow
	case errors.Is(err, errSlowSender):
		v.reason = SlowSender
	case errors.Is(err, errNoMemory):
		v.reason = NoMemory
	case errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed),
		errors.Is(err, errSilent),
		errors.As(err, &system),
		errors.As(err, &network):
		v.reason = lost
	default:
		v.reason = ProtocolError
	}
	return v
}

// reasonOfCode tells a peer that has ended from one that fell over or restarts. CallEnded stands for the former here.
func reasonOfCode(code int, lost Reason) Reason {
	switch code {
	case websocket.CloseAbnormalClosure,
		websocket.CloseInternalServerErr,
		websocket.CloseServiceRestart,
		websocket.CloseTryAgainLater:
		return lost
	case websocket.CloseGoingAway: // a server that shuts down; a caller that hangs up may say so too
		if lost == AgentLost {
			return lost
		}
	}
	return CallEnded
}

// ownCode is what the peer itself is told; gorilla has told it already where gorilla found the fault.
func ownCode(err error) int {
	switch {
	case errors.Is(err, errMalformed):
		return websocket.CloseInvalidFramePayloadData
	case errors.Is(err, errSlow), errors.Is(err, errFlood), errors.Is(err, errSilent), errors.Is(err, errSlowSender):
		return websocket.ClosePolicyViolation
	case errors.Is(err, errNoMemory): // RFC 6455's registry: the server is overloaded
		return websocket.CloseTryAgainLater
	}
	return websocket.CloseNormalClosure
}

// callEnded returns the end of a call that Exotel stopped.
func callEnded() verdict {
	return verdict{
		reason:     CallEnded,
		side:       exotelSide,
		exotelCode: websocket.CloseNormalClosure,
		agentCode:  websocket.CloseNormalClosure,
	}
}

// agentAsked is the verdict when the agent's protocol has a message that ends the call, and the agent sent it.
func agentAsked() verdict {
	return verdict{
		reason:     AgentClosed,
		side:       agentSide,
		exotelCode: websocket.CloseNormalClosure,
		agentCode:  websocket.CloseNormalClosure,
	}
}
