package mail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/mail"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// Envelope is what sets one message apart from another of the same content.
type Envelope struct {
	// ID is the same whenever the same event is told of: see EventID.
	ID string
	// Date is when it was written.
	Date time.Time
}

// EventID names an event of a tenant's in its message's Message-ID: a server that is given one message twice can see that.
func EventID(tenant, eventKey string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "caly mail\x00%q %q", tenant, eventKey))
	return hex.EncodeToString(sum[:16])
}

// compose writes the message as it goes over the wire: headers, a text and an HTML part.
func compose(from *mail.Address, to string, m Message, e Envelope) ([]byte, error) {
	rendered, err := m.render()
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithBoundary("caly-"+e.ID))
	msg.FromMailAddress(from)
	msg.ToMailAddress(&mail.Address{Address: to})
	msg.Subject(rendered.Subject)
	msg.SetDateWithValue(e.Date.UTC())
	msg.SetMessageIDWithValue(e.ID + "@" + domainOf(from.Address))
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All") // what Exchange heeds
	msg.SetBodyString(gomail.TypeTextPlain, rendered.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, rendered.HTML)
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("template %s cannot be written as a message", m.Template) // the cause may quote a secret
	}
	return b.Bytes(), nil
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// mailbox writes an address's domain in ASCII, as every server knows it. utf8 tells whether the name before it needs SMTPUTF8.
func mailbox(address string) (ascii string, utf8 bool, err error) {
	domain := domainOf(address)
	name := address[:len(address)-len(domain)]
	if !isASCII(domain) {
		if domain, err = idna.Lookup.ToASCII(domain); err != nil {
			return "", false, err
		}
	}
	return name + domain, !isASCII(name), nil
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e }) }
