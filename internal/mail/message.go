// Package mail is what Caly writes to people: templates, how what they hold is kept encrypted until it is sent, and SMTP.
package mail

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/caly-dev/caly/internal/secret"
)

// Template names how a message reads. The set is closed.
type Template string

// Templates, with what they need of Data in addition to Service.
const (
	VerifyEmail     Template = "verify_email"     // Code, ValidFor
	AccountExists   Template = "account_exists"   // nothing
	ResetPassword   Template = "reset_password"   // Link or Code, ValidFor
	PasswordChanged Template = "password_changed" // At; Device, Address
	Invitation      Template = "invitation"       // Link or Code, ValidFor
	SessionsEnded   Template = "sessions_ended"   // At; Device, Address
	// None is never sent: a request for an account that does not exist writes it, so that it works as much as any other.
	None Template = "none"
)

// Templates returns all that are sent.
func Templates() []Template {
	return []Template{VerifyEmail, AccountExists, ResetPassword, PasswordChanged, Invitation, SessionsEnded}
}

// Data is what a template needs.
type Data struct {
	// Service is whom the message speaks for, as people know it.
	Service string `json:"service"`
	// Code to type in, and Link to follow (http or https). Secrets, both.
	Code secret.Sensitive `json:"code,omitempty"`
	Link secret.Sensitive `json:"link,omitempty"`
	// ValidFor is how long the code or link is good.
	ValidFor time.Duration `json:"validFor,omitempty"`
	// At is when it happened; Device and Address from where.
	At      time.Time `json:"at,omitzero"`
	Device  string    `json:"device,omitempty"`
	Address string    `json:"address,omitempty"`
}

// Message to one person.
type Message struct {
	Template Template
	// To is the bare address.
	To   string
	Data Data
}

// maxAddress is the longest path that SMTP carries, without its brackets.
const maxAddress = 254

// CheckAddress returns an error if mail cannot be addressed to s: it must be a bare address, without a name or comment.
func CheckAddress(s string) error {
	address, err := mail.ParseAddress(s)
	if err != nil || address.Address != s || address.Name != "" || len(s) > maxAddress ||
		strings.ContainsFunc(s, unprintable) {
		return errors.New(
			"the recipient is not a bare email address such as name@example.com",
		) // which it is not, the log is not told
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// check is made before a message is written, where the caller can be told, and before it is sent.
func (m Message) check() error {
	if err := CheckAddress(m.To); err != nil {
		return err
	}
	lacks := ""
	switch m.Template {
	case None, AccountExists:
	case VerifyEmail:
		lacks = missing("Code", m.Data.Code == "", m.Data.ValidFor)
	case ResetPassword, Invitation:
		lacks = missing("Link or Code", m.Data.Code == "" && m.Data.Link == "", m.Data.ValidFor)
	case PasswordChanged, SessionsEnded:
		if m.Data.At.IsZero() {
			lacks = "At"
		}
	default:
		return fmt.Errorf("no template is called %q", m.Template)
	}
	if lacks != "" {
		return fmt.Errorf("template %s needs %s", m.Template, lacks)
	}
	return checkLink(m.Data.Link.Reveal())
}

func missing(what string, is bool, validFor time.Duration) string {
	if !is && validFor <= 0 {
		return "ValidFor"
	}
	if is {
		return what
	}
	return ""
}

func checkLink(link string) error {
	if link == "" {
		return nil
	}
	address, err := url.Parse(link)
	if err != nil || (address.Scheme != "https" && address.Scheme != "http") || address.Host == "" ||
		strings.ContainsFunc(link, unprintable) ||
		strings.Contains(link, " ") {
		return errors.New("the message's link is not an http or https URL")
	}
	return nil
}
