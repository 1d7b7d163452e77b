package objectstore_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func get(t *testing.T, url string) (status int, header http.Header, body []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

func TestPresignGet(t *testing.T) {
	server, config := newStore(t)
	b := open(t, config, nil)
	const key = "acme/support/2026/03/01/c1-00aa.mp3"
	want := audio(4096)
	if _, err := b.Put(t.Context(), objectstore.Object{
		Key:         key,
		Body:        bytes.NewReader(want),
		Size:        int64(len(want)),
		ContentType: "audio/mpeg",
	}); err != nil {
		t.Fatal(err)
	}
	link, err := objectstore.PresignGet(config, key, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	status, header, body := get(t, link)
	if status != http.StatusOK || !bytes.Equal(body, want) {
		t.Fatalf("status %d and %d bytes: %.200s", status, len(body), body)
	}
	if got := header.Get("Content-Disposition"); got != "attachment; filename=c1-00aa.mp3" {
		t.Errorf("it is saved as %q", got)
	}
	if strings.Contains(link, server.SecretKey) {
		t.Errorf("the secret key is in %s", link)
	}
	// A link is for one object, one method and one name: a change of any of them makes the link invalid.
	for name, changed := range map[string]string{
		"another object": strings.Replace(link, "c1-00aa", "c1-00ab", 1),
		"another tenant": strings.Replace(link, "acme/support", "acme/sales", 1),
		"another name":   strings.Replace(link, "filename%3Dc1-00aa.mp3", "filename%3Devil.exe", 1),
		"longer":         strings.Replace(link, "X-Amz-Expires=60", "X-Amz-Expires=6000", 1),
		"as it is shown": strings.Replace(link, "attachment", "inline", 1),
	} {
		if changed == link {
			t.Fatalf("%s: nothing was changed in %s", name, link)
		}
		if status, _, _ := get(t, changed); status != http.StatusForbidden {
			t.Errorf("%s: status %d, want it refused", name, status)
		}
	}
	resp, err := http.Post(link, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode < 400 {
		t.Errorf("a link to read lets write: %d", resp.StatusCode)
	}
}

func TestPresignedExpires(t *testing.T) {
	_, config := newStore(t)
	if _, err := open(t, config, nil).Put(t.Context(), objectstore.Object{
		Key:  "ns/t/a",
		Body: strings.NewReader("x"),
		Size: 1,
	}); err != nil {
		t.Fatal(err)
	}
	link, err := objectstore.PresignGet(config, "ns/t/a", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	eventually.Within(10*time.Second).Succeeds(t, func(context.Context) error {
		if status, _, _ := get(t, link); status != http.StatusForbidden {
			return fmt.Errorf("status %d after a second", status)
		}
		return nil
	})
}

func TestPresignRefuses(t *testing.T) {
	good := objectstore.Config{
		Endpoint:        "https://s3.nowhere.invalid",
		Region:          "ap-southeast-1",
		AccessKeyID:     "a",
		SecretAccessKey: "topsecret",
		Bucket:          "bucket",
	}
	for name, tc := range map[string]struct {
		change func(*objectstore.Config)
		key    string
		within time.Duration
		want   string
	}{
		"no key":            {nil, "", time.Minute, "key"},
		"a key that climbs": {nil, "acme/support/../../globex/sales/a", time.Minute, "climbs"},
		"an empty element":  {nil, "acme//a", time.Minute, "key"},
		"a folder":          {nil, "acme/", time.Minute, "key"},
		"no bucket":         {func(c *objectstore.Config) { c.Bucket = "" }, "a", time.Minute, "bucket"},
		"no endpoint":       {func(c *objectstore.Config) { c.Endpoint = "s3.test" }, "a", time.Minute, "endpoint"},
		"no credentials": {func(c *objectstore.Config) {
			c.AccessKeyID = ""
			c.SecretAccessKey = ""
		}, "a", time.Minute, "sign"},
		"no time":          {nil, "a", 0, "sign"},
		"more than a week": {nil, "a", 8 * 24 * time.Hour, "sign"},
	} {
		config := good
		if tc.change != nil {
			tc.change(&config)
		}
		link, err := objectstore.PresignGet(config, tc.key, tc.within)
		if err == nil || link != "" || !strings.Contains(err.Error(), tc.want) ||
			strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %q, %v; want an error that says %q", name, link, err, tc.want)
		}
	}
	// The host is nowhere, so whatever asked it would fail.
	link, err := objectstore.PresignGet(good, "acme/support/a.mp3", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(link)
	if err != nil || address.Scheme != "https" || !strings.HasSuffix(address.Host, "s3.nowhere.invalid") ||
		address.Query().Get("X-Amz-Expires") != "60" ||
		!strings.Contains(address.Query().Get("X-Amz-Credential"), "/ap-southeast-1/s3/") {
		t.Errorf("%s, %v", link, err)
	}
}

func FuzzFilename(f *testing.F) {
	for _, key := range []string{"acme/support/c1-00aa.mp3", "", "..", "a/", ".htaccess", "a\"; filename=evil.exe",
		"a\r\nSet-Cookie: x", "\xff", "über.mp3",
		strings.Repeat("a", 300) + ".mp3", "a" + strings.Repeat("-", 127)} {
		f.Add(key)
	}
	safe := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	f.Fuzz(func(t *testing.T, key string) {
		name := objectstore.Filename(key)
		if !safe.MatchString(name) || len(name) > 128 {
			t.Fatalf("%q is saved as %q", key, name)
		}
		if base := path.Base(key); safe.MatchString(base) && len(base) <= 128 && name != base {
			t.Fatalf("%q is saved as %q, which it need not be", key, name)
		}
	})
}
