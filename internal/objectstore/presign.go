package objectstore

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// maxFilename bounds the name under which a download is saved, in bytes.
const maxFilename = 128

// PresignGet returns a URL that downloads an object without credentials until the time has passed, at most seven days.
// A browser saves it under the last element of the key. PresignGet makes no request: a missing object shows when the
// URL is used.
func PresignGet(c Config, key string, within time.Duration) (string, error) {
	if key == "" || path.Clean("/"+key) != "/"+key {
		return "", errors.New("the object's key is empty, or has an element that is empty or climbs")
	}
	if c.PublicEndpoint != "" {
		c.Endpoint = c.PublicEndpoint
	}
	core, err := newCore(c, offline{})
	if err != nil {
		return "", err
	}
	answer := url.Values{
		"response-content-disposition": {
			mime.FormatMediaType("attachment", map[string]string{"filename": Filename(key)}),
		},
	}
	address, err := core.PresignedGetObject(
		context.Background(), c.Bucket, key, within, answer,
	) // offline: nothing to break off
	if err != nil {
		return "", fmt.Errorf("sign a link to the object: %w", err)
	}
	return address.String(), nil
}

// Filename is a name that is safe on every system: the last element of a key, of letters, digits, '.', '_' and '-' alone, and
// beginning with none of the last three.
func Filename(key string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 &&
			(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("._-", r)) {
			return r
		}
		return '_'
	}, path.Base(key))
	name = strings.TrimLeft(name[max(0, len(name)-maxFilename):], "._-") // its end says what it is
	if name == "" {
		return "recording"
	}
	return name
}

// offline holds the client to its word that no request is made.
type offline struct{}

// RoundTrip implements http.RoundTripper.
func (offline) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("links are signed without a request")
}
