package pgtest

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// roles makes the roles as docs/how-to/prepare-the-database.md says. The owner makes the others, and so has ADMIN
// OPTION on them.
func (p *postgres) roles() error {
	verifier, err := verifier()
	if err != nil {
		return err
	}
	const sql = `ALTER ROLE postgres PASSWORD '%[1]s';
		CREATE ROLE caly_owner LOGIN CREATEROLE PASSWORD '%[1]s'; SET ROLE caly_owner;
		CREATE ROLE caly_operator LOGIN PASSWORD '%[1]s'; CREATE ROLE caly_dataplane LOGIN PASSWORD '%[1]s'`
	return p.exec(context.Background(), fmt.Sprintf(sql, verifier))
}

// verifier returns what PostgreSQL stores of the tests' password: a digest after one round instead of 4096. Under the
// race detector, those rounds take more time at each login than all else that most tests do.
func verifier() (string, error) {
	const rounds = 1
	salt := []byte("salt of tests")
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	sign := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, b64(salt), b64(stored[:]), b64(sign("Server Key"))), nil
}
