// Package password hashes passwords (argon2id, RFC 9106, in PHC form), bounds what that costs, and says which passwords are taken
// (NIST SP 800-63B-4, section 3.1.1.2).
package password

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Params are what a hash costs.
type Params struct {
	// Memory in KiB, passes over it, and lanes.
	Memory, Time uint32
	Threads      uint8
}

// bytes is the memory that one hash takes.
func (p Params) bytes() int64 { return int64(p.Memory) << 10 }

// Default is OWASP's recommendation of least memory: about 20 ms and 19 MiB.
var Default = Params{Memory: 19 << 10, Time: 2, Threads: 1}

const (
	saltSize = 16
	keySize  = 32
)

// Ceilings on the parameters of stored hashes: what is in a row must not be able to cost a pod its memory.
const (
	maxMemory  = 64 << 10 // KiB
	maxTime    = 8
	maxThreads = 4
	maxSalt    = 64
	maxKey     = 64
	maxPHC     = 256
)

// errHash is the error for a stored hash that cannot be read or costs too much. It does not quote the hash.
var errHash = errors.New("a stored password hash is not argon2id in PHC form within its bounds: set the password again")

// hashed is a hash that was read.
type hashed struct {
	Params
	salt, key []byte
}

// encode writes the PHC form.
func (h hashed) encode() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf(
		"$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.Memory, h.Time, h.Threads, b64(h.salt), b64(h.key),
	)
}

// parse reads what encode writes, and nothing else that would read the same.
func parse(phc string) (h hashed, err error) {
	if len(phc) > maxPHC {
		return h, errHash
	}
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return h, errHash
	}
	if h.Params, err = parseParams(parts[3]); err != nil {
		return h, err
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, saltErr := b64.DecodeString(parts[4])
	key, keyErr := b64.DecodeString(parts[5])
	h.salt = salt
	h.key = key
	if saltErr != nil || keyErr != nil || len(salt) < 8 || len(salt) > maxSalt || len(key) < 16 || len(key) > maxKey ||
		h.encode() != phc {
		return hashed{}, errHash
	}
	return h, nil
}

func parseParams(text string) (p Params, err error) {
	var got [3]uint64
	fields := strings.Split(text, ",")
	if len(fields) != len(got) {
		return p, errHash
	}
	for i, name := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(fields[i], name)
		if got[i], err = strconv.ParseUint(digits, 10, 32); err != nil || !ok {
			return p, errHash
		}
	}
	if got[0] > maxMemory || got[1] > maxTime || got[2] > maxThreads || got[1] < 1 || got[2] < 1 || got[0] < 8*got[2] {
		return p, errHash
	}
	return Params{
		Memory:  uint32(got[0]), //nolint:gosec // below the ceilings
		Time:    uint32(got[1]), //nolint:gosec // below the ceilings
		Threads: uint8(got[2]),  //nolint:gosec // below the ceilings
	}, nil
}

// derive is argon2id.
func (p Params) derive(password string, salt []byte, size int) []byte {
	return argon2.IDKey(
		[]byte(password),
		salt,
		p.Time,
		p.Memory,
		p.Threads,
		uint32(size), //nolint:gosec // sizes are small
	)
}

// make hashes a password under a new salt.
func (p Params) make(password string) string {
	h := hashed{Params: p, salt: make([]byte, saltSize)}
	_, _ = rand.Read(h.salt) // never fails
	h.key = p.derive(password, h.salt, keySize)
	return h.encode()
}

func (h hashed) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.derive(password, h.salt, len(h.key)), h.key) == 1
}

// weaker reports whether the hash should be replaced by one with p.
func (h hashed) weaker(p Params) bool {
	return h.Params != p || len(h.salt) < saltSize || len(h.key) < keySize
}
