package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// recheckFiles is how often the pair's files are looked at. They are read, not watched: a mounted Secret changes by a link far above
// them, and one reading tells both whether they changed and what they are now.
const recheckFiles = 5 * time.Second

// certificates is a pair of files that may be replaced at any time.
type certificates struct {
	certFile, keyFile string
	every             time.Duration
	log               *slog.Logger

	current atomic.Pointer[tls.Certificate]
	seen    [sha256.Size]byte // of both files as they were read last, good or not; watch alone changes it
}

// certificates returns nil without TLS. An unusable pair is an error at the start, since the server could serve
// nothing with it.
func (o Options) certificates() (*certificates, error) {
	if o.TLSCertFile == "" && o.TLSKeyFile == "" {
		return nil, nil //nolint:nilnil // no TLS is not an error
	}
	if o.TLSCertFile == "" || o.TLSKeyFile == "" {
		return nil, errors.New("TLS needs both a certificate and a key: name both files, or neither")
	}
	c := &certificates{
		certFile: o.TLSCertFile,
		keyFile:  o.TLSKeyFile,
		every:    cmp.Or(o.recheck, recheckFiles),
		log:      o.Log,
	}
	if _, err := c.load(); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

// config is that of every handshake. Connections that are there keep the certificate that they began with.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// load reads the pair, and puts a new one in force if it is good.
func (c *certificates) load() (changed bool, err error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, fmt.Errorf("read the certificate: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return false, fmt.Errorf("read the key: %w", err)
	}
	seen := sha256.Sum256(bytes.Join([][]byte{cert, key}, []byte{0}))
	if seen == c.seen {
		return false, nil
	}
	c.seen = seen
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("certificate %s and key %s do not match: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&pair)
	return true, nil
}

// watch looks again and again, until ctx is done.
func (c *certificates) watch(ctx context.Context) {
	ticker := time.NewTicker(c.every)
	defer ticker.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		told = c.check(told)
	}
}

// check loads the pair and logs what is new. It returns the trouble that it told, which it does not tell twice.
func (c *certificates) check(told string) string {
	changed, err := c.load()
	if err != nil {
		if err.Error() != told {
			c.log.Error("the new TLS certificate cannot be used; the one before stays in force", "error", err)
		}
		return err.Error()
	}
	if changed {
		leaf := c.current.Load().Leaf
		c.log.Info("a new TLS certificate is in force", "serial", leaf.SerialNumber.String(), "expires", leaf.NotAfter)
	}
	return ""
}
