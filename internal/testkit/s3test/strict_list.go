package s3test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
)

func (s *Strict) remove(w http.ResponseWriter, key, version string) *Refusal {
	if s.rules.NoDelete {
		return &Refusal{403, "AccessDenied",
			"User: arn:aws:iam::123456789012:user/uploader is not authorized to perform: " +
				"s3:DeleteObject on resource: \"arn:aws:s3:::" + s.Bucket + "/" + key +
				"\" because no identity-based policy allows the s3:DeleteObject action", ""}
	}
	if s.rules.Lock && version != "" {
		return &Refusal{403, "AccessDenied", "Access Denied because object protected by object lock.", ""}
	}
	if s.rules.NoDeleteVersion && version != "" {
		return &Refusal{403, "AccessDenied", "User: arn:aws:iam::123456789012:user/uploader is not authorized to " +
			"perform: s3:DeleteObjectVersion because no identity-based policy allows it", ""}
	}
	switch strictObject := s.objects[key]; {
	case strictObject == nil:
	case version != "":
		strictObject.all = slices.DeleteFunc(strictObject.all, func(v strictVersion) bool { return v.id == version })
		strictObject.refresh()
	case s.versioned():
		strictObject.all = append(strictObject.all, strictVersion{id: fmt.Sprintf("v%d", s.next()), marker: true})
		strictObject.refresh()
	default:
		delete(s.objects, key)
	}
	if strictObject := s.objects[key]; strictObject != nil && len(strictObject.all) == 0 {
		delete(s.objects, key)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Strict) deleteMany(w http.ResponseWriter, r *http.Request, body []byte) *Refusal {
	if s.rules.NoMultiDelete {
		return &Refusal{501, "NotImplemented", "A header you provided implies functionality that is not implemented.",
			""}
	}
	// versity/versitygw#1301 has the text
	if r.Header.Get("Content-Md5") == "" && r.Header.Get("X-Amz-Checksum-Sha256") == "" {
		return &Refusal{400, "InvalidRequest",
			"Missing required header for this request: Content-MD5 OR x-amz-checksum-*", ""}
	}
	var list struct{ Object []struct{ Key string } }
	if xml.Unmarshal(body, &list) != nil {
		return &Refusal{400, "MalformedXML", "The XML you provided was not well-formed", ""}
	}
	_, _ = io.WriteString(w, "<DeleteResult>")
	for _, o := range list.Object {
		if no := s.remove(httptest.NewRecorder(), o.Key, ""); no != nil {
			_, _ = fmt.Fprintf(w, "<Error><Key>%s</Key><Code>%s</Code><Message>Access Denied</Message></Error>", o.Key,
				no.Code)
			continue
		}
		_, _ = fmt.Fprintf(w, "<Deleted><Key>%s</Key></Deleted>", o.Key)
	}
	_, _ = io.WriteString(w, "</DeleteResult>")
	return nil
}

func (s *Strict) list(w http.ResponseWriter, prefix, most string) *Refusal {
	limit, err := strconv.Atoi(most)
	if err != nil {
		limit = 1000
	}
	var keys []string
	for key, o := range s.objects {
		if strings.HasPrefix(key, prefix) && !o.Deleted {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	_, _ = fmt.Fprintf(w, "<ListBucketResult><Name>%s</Name><IsTruncated>false</IsTruncated>", s.Bucket)
	for _, key := range keys[:min(limit, len(keys))] {
		_, _ = fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size></Contents>", key, len(s.objects[key].Data))
	}
	_, _ = io.WriteString(w, "</ListBucketResult>")
	return nil
}
