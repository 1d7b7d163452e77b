package s3test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Rules are what a Strict store enforces beyond what every S3 store does. The zero value is a plain bucket of Amazon's.
type Rules struct {
	// Region of the bucket; us-east-1 if empty. Redirect answers other regions with 301 in place of 400.
	Region   string
	Redirect bool
	// Token is the session token that each request must carry; empty: none may.
	Token string
	// Lock gives the bucket Object Lock with a default retention: a body needs Content-MD5 or a checksum, and no
	// version can be deleted.
	Lock bool
	// Encryption is what the bucket's policy requires of x-amz-server-side-encryption, and KMSKey which key.
	Encryption, KMSKey string
	// Skew is how far the store's clock is ahead.
	Skew time.Duration
	// Versioned gives the bucket versions, as Lock does. NoDeleteVersion denies the deletion of a version.
	Versioned, NoDeleteVersion bool
	// VirtualHost refuses addresses with the bucket in the path.
	VirtualHost bool
	// NoMultiDelete refuses the deletion of many objects in a request.
	NoMultiDelete bool
	// NoSHA256 and NoCRC64 refuse checksum headers. BlindSHA256, BlindCRC64 and BlindMD5 accept checksums without a
	// look at the body, and BlindParts does so with each part.
	NoSHA256, NoCRC64, BlindSHA256, BlindCRC64, BlindMD5, BlindParts bool
	// NoParts refuses uploads in parts.
	NoParts bool
	// OpaqueETags gives objects ETags that are not digests, as encryption with KMS does.
	OpaqueETags bool
	// OpaquePartETags gives parts such ETags.
	OpaquePartETags bool
	// NoRange ignores the range of a request for an object.
	NoRange bool
	// NoDelete denies deletions to the key.
	NoDelete bool
	// ForgetExpired is the variant of MinIO, which forgets temporary credentials that have expired: it answers as it
	// does for keys that never existed. Source: minio/minio, cmd/signature-v4-utils.go (checkKeyValid).
	ForgetExpired bool
	// StorageClasses are the classes that exist in addition to STANDARD.
	StorageClasses []string
	// Refuse answers a request before all else; nil, or a nil result, goes on. It must be safe for concurrent use.
	Refuse func(*http.Request) *Refusal
}

// Refusal is an error answer.
type Refusal struct {
	Status        int
	Code, Message string
	// Extra elements of the body, as XML.
	Extra string
}

// StrictObject is what a Strict store has under a key.
type StrictObject struct {
	Data []byte
	// Header has what the request that made it said of it.
	Header http.Header
	// Versions is how many there are with data, and Deleted whether the newest is a delete marker.
	Versions int
	Deleted  bool

	all []strictVersion
}

type strictVersion struct {
	id     string
	data   []byte
	header http.Header
	marker bool
}

// refresh sets what is visible of the versions.
func (o *StrictObject) refresh() {
	o.Data = nil
	o.Header = nil
	o.Deleted = true
	o.Versions = 0
	for _, v := range o.all {
		if o.Deleted = v.marker; !v.marker {
			o.Data = v.data
			o.Header = v.header
			o.Versions++
		}
	}
}

// Strict is a store in memory that enforces what Amazon documents, with one bucket. Its answers have the codes and
// texts that public reports quote; each is named where it is made.
type Strict struct {
	// URL is the endpoint.
	URL                          string
	Bucket, AccessKey, SecretKey string

	rules   Rules
	mu      sync.Mutex
	objects map[string]*StrictObject
	uploads map[string]*strictUpload
	asked   []string
	serial  int
	issued  map[string]IssuedKey // by access key
	sts     *STS                 // that has the same endpoint; nil: none
}

type strictUpload struct {
	key    string
	header http.Header
	parts  map[int]strictPart
}

type strictPart struct {
	data      []byte
	sha, etag string
}

// NewStrict starts one; with TLS if certify is not nil.
func NewStrict(t testing.TB, rules Rules, certify func(*httptest.Server)) *Strict {
	t.Helper()
	if rules.Region == "" {
		rules.Region = "us-east-1"
	}
	strict := &Strict{
		Bucket:    "strict-bucket",
		AccessKey: "AKIDEXAMPLE",
		SecretKey: "wJalrXUtnFEMI",
		rules:     rules,
		objects:   map[string]*StrictObject{},
		uploads:   map[string]*strictUpload{},
	}
	server := httptest.NewUnstartedServer(strict)
	if certify != nil {
		certify(server)
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	strict.URL = server.URL
	return strict
}

// Object returns a copy of what is under a key, and whether there was ever anything.
func (s *Strict) Object(key string) (StrictObject, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	strictObject, ok := s.objects[key]
	if !ok {
		return StrictObject{}, false
	}
	return *strictObject, true
}

// Keys returns the keys of objects that are not deleted, sorted.
func (s *Strict) Keys() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.objects {
		if !o.Deleted {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Uploads returns how many uploads in parts are unfinished.
func (s *Strict) Uploads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.uploads)
}

// Asked returns the requests so far, each with its method, and path or query.
func (s *Strict) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// SetRules changes the rules.
func (s *Strict) SetRules(change func(*Rules)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.rules)
}

// ServeHTTP implements http.Handler.
func (s *Strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	sts := s.sts
	s.mu.Unlock()
	if sts != nil && r.Method == http.MethodPost && r.URL.RequestURI() == "/" {
		sts.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	w.Header().Set("Date", time.Now().Add(s.rules.Skew).UTC().Format(http.TimeFormat))
	if no := s.serve(w, r, body); no != nil {
		no.write(w, r)
	}
}

func (no *Refusal) write(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(no.Status)
	if r.Method != http.MethodHead {
		_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>", no.Code)
		_ = xml.EscapeText(w, []byte(no.Message))
		_, _ = fmt.Fprintf(w, "</Message>%s<RequestId>X</RequestId><HostId>Y</HostId></Error>", no.Extra)
	}
}

func (s *Strict) serve(w http.ResponseWriter, r *http.Request, body []byte) *Refusal {
	if s.rules.Refuse != nil {
		if no := s.rules.Refuse(r); no != nil {
			return no
		}
	}
	bucket, key, no := s.address(r)
	if no != nil {
		return no
	}
	if no := s.authenticate(w, r, body); no != nil {
		return no
	}
	if bucket != s.Bucket {
		return &Refusal{404, "NoSuchBucket", "The specified bucket does not exist", "<BucketName>" + bucket +
			"</BucketName>"}
	}
	return s.operate(w, r, key, body)
}

// address takes the bucket from the host or the path.
func (s *Strict) address(r *http.Request) (bucket, key string, no *Refusal) {
	if strings.Contains(r.Host, "dualstack") {
		return "", "", &Refusal{400, "InvalidRequest", "S3 dual-stack endpoints are not supported here", ""}
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	if host, ok := strings.CutPrefix(r.Host, s.Bucket+"."); ok && host != "" {
		return s.Bucket, path, nil
	}
	if s.rules.VirtualHost { // electron-userland/electron-builder#8674
		return "", "", &Refusal{403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.", ""}
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key, nil
}

// operate is called for requests that are authentic.
func (s *Strict) operate(w http.ResponseWriter, r *http.Request, key string, body []byte) *Refusal {
	values := r.URL.Query()
	switch {
	case key == "" && r.Method == http.MethodGet && values.Has("uploads"):
		return s.listUploads(w, values.Get("prefix"))
	case key == "" && r.Method == http.MethodGet:
		return s.list(w, values.Get("prefix"), values.Get("max-keys"))
	case key == "" && r.Method == http.MethodPost && values.Has("delete"):
		return s.deleteMany(w, r, body)
	case r.Method == http.MethodPost && values.Has("uploads"):
		return s.begin(w, r, key)
	case values.Has("uploadId"):
		return s.part(w, r, key, body)
	case r.Method == http.MethodPut:
		return s.put(w, r, key, body)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return s.get(w, r, key)
	case r.Method == http.MethodDelete:
		return s.remove(w, key, values.Get("versionId"))
	}
	return &Refusal{501, "NotImplemented", "A header you provided implies functionality that is not implemented", ""}
}

func (s *Strict) put(w http.ResponseWriter, r *http.Request, key string, body []byte) *Refusal {
	if no := s.admit(r.Header); no != nil {
		return no
	}
	if no := s.check(r.Header, body, "Object"); no != nil {
		return no
	}
	sum := md5.Sum(body)
	s.store(w, key, body, r.Header, hex.EncodeToString(sum[:]))
	return nil
}

// store adds a version.
func (s *Strict) store(w http.ResponseWriter, key string, data []byte, header http.Header, etag string) {
	strictObject := s.objects[key]
	if strictObject == nil {
		strictObject = &StrictObject{}
		s.objects[key] = strictObject
	}
	if s.rules.OpaqueETags {
		etag = hex.EncodeToString([]byte(fmt.Sprintf("%016d", s.next())))
	}
	v := strictVersion{data: bytes.Clone(data), header: header.Clone()}
	v.header.Set("ETag", `"`+etag+`"`)
	w.Header().Set("ETag", `"`+etag+`"`)
	if s.versioned() {
		v.id = fmt.Sprintf("v%d", s.next())
		w.Header().Set("X-Amz-Version-Id", v.id)
		strictObject.all = append(strictObject.all, v)
	} else {
		strictObject.all = []strictVersion{v}
	}
	strictObject.refresh()
	for _, name := range []string{"X-Amz-Checksum-Sha256", "X-Amz-Checksum-Crc64nvme"} {
		if sum := header.Get(name); sum != "" {
			w.Header().Set(name, sum)
		}
	}
}

func (s *Strict) versioned() bool { return s.rules.Versioned || s.rules.Lock }

func (s *Strict) next() int {
	s.serial++
	return s.serial
}

// admit holds a write against the bucket's policy and the store's options.
func (s *Strict) admit(h http.Header) *Refusal {
	encryption := h.Get("X-Amz-Server-Side-Encryption")
	key := h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id")
	if s.rules.Encryption != "" && encryption != s.rules.Encryption { // quiltdata/quilt#1326
		return &Refusal{403, "AccessDenied", "Access Denied", ""}
	}
	if s.rules.KMSKey != "" && key != s.rules.KMSKey { // localstack/localstack#7177
		return &Refusal{400, "KMS.NotFoundException", "Invalid keyId '" + key + "'", ""}
	}
	if class := h.Get("X-Amz-Storage-Class"); class != "" && class != "STANDARD" &&
		!slices.Contains(s.rules.StorageClasses, class) {
		return &Refusal{400, "InvalidStorageClass", "The storage class you specified is not valid", ""}
	}
	return nil
}

func (s *Strict) get(w http.ResponseWriter, r *http.Request, key string) *Refusal {
	strictObject := s.objects[key]
	if strictObject == nil || strictObject.Deleted {
		return &Refusal{404, "NoSuchKey", "The specified key does not exist.", "<Key>" + key + "</Key>"}
	}
	for name, values := range strictObject.Header {
		if name == "Etag" || name == "Content-Type" || strings.HasPrefix(name, "X-Amz-Meta-") ||
			strings.HasPrefix(name, "X-Amz-Checksum-") && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
			w.Header()[name] = values
		}
	}
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	if s.rules.NoRange {
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(strictObject.Data))
	return nil
}
