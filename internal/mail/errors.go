package mail

import (
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"strings"
)

// Kind is what an error means for the message.
type Kind int

// Kinds.
const (
	// Temporary means that the server did not accept the message. It may be sent again.
	Temporary Kind = iota + 1
	// Permanent means that the message was refused permanently.
	Permanent
	// Uncertain means that the server had the whole message, and its answer did not come. It may have been delivered.
	Uncertain
)

// Error is why a message was not sent. It says no address, nothing of the message, and of a server's words only the codes: a server
// may quote either.
type Error struct {
	Kind Kind
	// Server reports whether the server or its configuration is the cause, and not this message. Other messages would
	// fail too.
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

// serverTrouble is an error of a step that does not depend on the message. Even a permanent refusal may end once the
// server or these settings are corrected. The message waits for that until it expires.
func serverTrouble(doing string, err error) *Error {
	e := answered(doing, err)
	e.Kind = Temporary
	e.Server = true
	return e
}

// refusal is an error of a step in which the server judges the recipient or the message. Servers also judge there what
// they heard before: Postfix (smtpd_delay_reject) rejects a HELO name, a sender or a relay only at the recipient. Such
// an answer may change with the settings, so the message waits for as long as it is worth sending.
func refusal(doing string, err error) *Error {
	e := answered(doing, err)
	sender := e.Code >= 500 && aboutSender(e.Code, e.Enhanced, err.Error())
	e.Kind = Temporary
	if e.Code >= 500 && !sender && !policy(e.Enhanced) {
		e.Kind = Permanent
	}
	e.Server = e.Code == 0 || e.Code == 421 || sender // down, going down, or not for us
	return e
}

// senderWords are parts of what servers say when they reject the sender and not the recipient: Postfix, Exim, Exchange,
// Sendmail, qmail and the hosted relays word it freely, with or without an enhanced code.
var senderWords = regexp.MustCompile(`(?i)\b(helo|ehlo|relay|authenti|not permitted to send|sender address|send as|` +
	`client host|starttls|blocked using|block ?list|blacklist|dnsbl|rbl|spf|dkim|dmarc|reverse dns|rcpthosts)`)

// aboutSender reports whether a refusal for good is about the sender: the commands (500 to 504, 5.5.z), its right to
// send (530, 534, 535, 538), or its address (5.1.7, 5.1.8).
func aboutSender(code int, enhanced, text string) bool {
	switch {
	case code <= 504, code == 530, code == 534, code == 535, code == 538:
		return true
	case strings.HasPrefix(enhanced, "5.5."), enhanced == "5.1.7", enhanced == "5.1.8":
		return true
	case strings.HasPrefix(enhanced, "5.1."), strings.HasPrefix(enhanced, "5.2."), strings.HasPrefix(enhanced, "5.6."):
		return false // the recipient's address or mailbox, or the content
	}
	return senderWords.MatchString(text)
}

// policy reports whether an enhanced code is about policy, routing or the server's own state (RFC 3463). A message that
// is too big for the server stays so.
func policy(enhanced string) bool {
	if enhanced == "5.3.4" {
		return false
	}
	return strings.HasPrefix(enhanced, "5.3.") || strings.HasPrefix(enhanced, "5.4.") ||
		strings.HasPrefix(enhanced, "5.7.")
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
	return &Error{
		Kind:   Uncertain,
		Server: true,
		Doing:  doing,
		Cause:  fmt.Errorf("no answer came, so it may have been delivered: %w", err),
	}
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
