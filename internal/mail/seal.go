package mail

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/store"
)

// KeySize of what mail is sealed under, in bytes.
const KeySize = 32

// padded is the least length of what is sealed: how long it is does not tell a decoy from the mail that it stands for.
const padded = 512

// errUnseal means that the data was sealed under another key or for another message, or was changed.
var errUnseal = errors.New(
	"the mail's contents cannot be read: they were sealed under another key or for another message; " +
		"check that all pods read one keyring, and ask for the mail again",
)

// Seal makes the outbox's row of a message. What the template needs is encrypted under key (KeySize bytes:
// keyring.Ring.Derive(keyring.PurposeMail)), bound to tenant, event, template and recipient. ttl is when sending it has become pointless.
func Seal(key []byte, tenant string, m Message, eventKey string, ttl time.Duration) (store.OutboxMail, error) {
	if err := m.check(); err != nil {
		return store.OutboxMail{}, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return store.OutboxMail{}, err
	}
	plain, err := json.Marshal(m.Data)
	if err != nil {
		return store.OutboxMail{}, errors.New("the mail's contents cannot be encoded") // the encoder might quote them
	}
	if short := padded - len(plain); short > 0 {
		plain = append(plain, strings.Repeat(" ", short)...)
	}
	row := store.OutboxMail{
		EventKey:  eventKey,
		Template:  string(m.Template),
		Recipient: m.To,
		ExpiresAt: time.Now().Add(ttl),
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	row.Sealed = aead.Seal(nonce, nonce, plain, bound(tenant, row))
	return row, nil
}

// Unseal reads what Seal made. Its errors quote nothing of it; errUnseal if it was not made so.
func Unseal(key []byte, tenant string, row store.OutboxMail) (Message, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return Message{}, err
	}
	if len(row.Sealed) < aead.NonceSize() {
		return Message{}, errUnseal
	}
	nonce := row.Sealed[:aead.NonceSize()]
	box := row.Sealed[aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, box, bound(tenant, row))
	if err != nil {
		return Message{}, errUnseal
	}
	message := Message{Template: Template(row.Template), To: row.Recipient}
	if json.Unmarshal(plain, &message.Data) != nil {
		return Message{}, errors.New(
			"the mail's contents were written by another release of caly: ask for the mail again",
		)
	}
	return message, message.check()
}

// bound returns what the contents belong to, so that none can be exchanged for that of another row.
func bound(tenant string, row store.OutboxMail) []byte {
	return fmt.Appendf(nil, "caly mail\x00%q %q %q %q", tenant, row.EventKey, row.Template, row.Recipient)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf(
			"the key that mail is sealed under has %d bytes and must have %d: the keyring has not been read yet",
			len(key),
			KeySize,
		)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
