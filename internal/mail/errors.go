package mail

import (
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
)

// Kind is what an error means for the message.
type Kind int

// Kinds.
const (
	// Temporary : the message was not taken; it may be sent again.
	Temporary Kind = iota + 1
	// Permanent : the message was refused for good.
	Permanent
	// Uncertain : the server had the whole message, and its answer did not come. It may have been delivered.
	Uncertain
)

// Error is why a message was not sent. It says no address, nothing of the message, and of a server's words only the codes: a server
// may quote either.
type Error struct {
	Kind Kind
	// Server : it is the server that is in trouble, or how it is set up, and not this message. Others would fare the same.
	Server bool
	// Doing is what failed.
	Doing string
	// Code of the server's answer, and the enhanced one (RFC 3463); 0 and empty without one.
	Code     int
	Enhanced string
	// Cause where there was no answer.
	Cause error
}

// Error says what failed and why.
func (e *Error) Error() string {
	switch {
	case e.Code != 0 && e.Enhanced != "":
		return fmt.Sprintf("%s: the SMTP server answered %d %s", e.Doing, e.Code, e.Enhanced)
	case e.Code != 0:
		return fmt.Sprintf("%s: the SMTP server answered %d", e.Doing, e.Code)
	}
	return fmt.Sprintf("%s: %v", e.Doing, e.Cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

var enhancedCode = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}`)

// serverTrouble is an error of a step that says nothing of the message: even a refusal for good may end once the server or these
// settings are mended, and the message waits for that as long as it is worth sending.
func serverTrouble(doing string, err error) *Error {
	e := answered(doing, err)
	e.Kind, e.Server = Temporary, true
	return e
}

// refusal is an error of a step in which the server judges the recipient or the message.
func refusal(doing string, err error) *Error {
	e := answered(doing, err)
	e.Kind = Temporary
	if e.Code >= 500 {
		e.Kind = Permanent
	}
	e.Server = e.Code == 0 || e.Code == 421 // gone, or going
	return e
}

// finalAnswer is what the answer to the whole message means, where it is not the one that there should be.
func finalAnswer(err error) error {
	const doing = "give it the message"
	switch e := refusal(doing, err); {
	case e.Code >= 400:
		return e
	case e.Code/100 == 2: // taken, in its own way
		return nil
	}
	return &Error{Kind: Uncertain, Server: true, Doing: doing, Cause: fmt.Errorf("no answer came, so it may have been delivered: %w", err)}
}

func answered(doing string, err error) *Error {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return &Error{Doing: doing, Code: reply.Code, Enhanced: enhancedCode.FindString(reply.Msg)}
	}
	var protocol textproto.ProtocolError
	if errors.As(err, &protocol) {
		err = errors.New("what it says is not SMTP") // the error quotes it
	}
	return &Error{Doing: doing, Cause: err}
}
