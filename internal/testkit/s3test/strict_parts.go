package s3test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (s *Strict) begin(w http.ResponseWriter, r *http.Request, key string) *Refusal {
	if no := s.admit(r.Header); no != nil {
		return no
	}
	algorithm := r.Header.Get("X-Amz-Checksum-Algorithm")
	if s.rules.NoParts || algorithm == "SHA256" && s.rules.NoSHA256 || algorithm == "CRC64NVME" && s.rules.NoCRC64 {
		return &Refusal{
			501,
			"NotImplemented",
			"A header you provided implies functionality that is not implemented",
			"",
		}
	}
	id := fmt.Sprintf("upload-%d", s.next())
	s.uploads[id] = &strictUpload{key: key, header: r.Header.Clone(), parts: map[int]strictPart{}}
	_, _ = fmt.Fprintf(w, "<InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><UploadId>%s</UploadId>"+
		"</InitiateMultipartUploadResult>", s.Bucket, key, id)
	return nil
}

// part serves the requests for an upload in parts that was begun.
func (s *Strict) part(w http.ResponseWriter, r *http.Request, key string, body []byte) *Refusal {
	values := r.URL.Query()
	strictUpload := s.uploads[values.Get("uploadId")]
	if strictUpload == nil || strictUpload.key != key {
		return &Refusal{404, "NoSuchUpload", "The specified multipart upload does not exist.", ""}
	}
	switch r.Method {
	case http.MethodPut:
		return s.putPart(w, r, strictUpload, values.Get("partNumber"), body)
	case http.MethodPost:
		return s.complete(w, strictUpload, values.Get("uploadId"), body)
	case http.MethodDelete:
		delete(s.uploads, values.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	_, _ = io.WriteString(w, "<ListPartsResult>")
	for _, n := range slices.Sorted(maps.Keys(strictUpload.parts)) {
		_, _ = fmt.Fprintf(w, "<Part><PartNumber>%d</PartNumber><ETag>&quot;%s&quot;</ETag><Size>%d</Size>", n,
			strictUpload.parts[n].etag, len(strictUpload.parts[n].data))
		if sha := strictUpload.parts[n].sha; sha != "" {
			_, _ = fmt.Fprintf(w, "<ChecksumSHA256>%s</ChecksumSHA256>", sha)
		}
		_, _ = io.WriteString(w, "</Part>")
	}
	_, _ = io.WriteString(w, "</ListPartsResult>")
	return nil
}

// algorithm is the checksum that an upload was begun with, as Amazon's texts name it.
func (u *strictUpload) algorithm() string {
	if a := strings.ToLower(u.header.Get("X-Amz-Checksum-Algorithm")); a != "" {
		return a
	}
	return "null"
}

func (s *Strict) putPart(w http.ResponseWriter, r *http.Request, u *strictUpload, number string, body []byte) *Refusal {
	sha := r.Header.Get("X-Amz-Checksum-Sha256")
	crc := r.Header.Get("X-Amz-Checksum-Crc64nvme")
	actual := "null"
	switch {
	case sha != "":
		actual = "sha256"
	case crc != "":
		actual = "crc64nvme"
	}
	if want := u.algorithm(); want != actual { // apache/arrow-rs#6793, floci-io/floci#3093
		return &Refusal{400, "InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: " + want +
			", actual checksum Type: " + actual, ""}
	}
	if no := s.check(r.Header, body, "Part"); no != nil {
		return no
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return &Refusal{400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive", ""}
	}
	sum := md5.Sum(body)
	etag := hex.EncodeToString(sum[:])
	if s.rules.OpaquePartETags {
		etag = fmt.Sprintf("part-%d", s.next())
	}
	u.parts[n] = strictPart{bytes.Clone(body), sha, etag}
	w.Header().Set("ETag", `"`+etag+`"`)
	if sha != "" {
		w.Header().Set("X-Amz-Checksum-Sha256", sha)
	}
	return nil
}

func (s *Strict) complete(w http.ResponseWriter, u *strictUpload, id string, body []byte) *Refusal {
	var list struct {
		Part []struct {
			PartNumber     int
			ETag           string
			ChecksumSHA256 string
		}
	}
	if xml.Unmarshal(body, &list) != nil || len(list.Part) == 0 {
		return &Refusal{400, "MalformedXML", "The XML you provided was not well-formed", ""}
	}
	var data, sums []byte
	for i, p := range list.Part {
		have, ok := u.parts[p.PartNumber]
		sum := md5.Sum(have.data)
		if !ok || strings.Trim(p.ETag, `"`) != have.etag || p.ChecksumSHA256 != "" && p.ChecksumSHA256 != have.sha {
			return &Refusal{400, "InvalidPart", "One or more of the specified parts could not be found.", ""}
		}
		if u.algorithm() == "sha256" && p.ChecksumSHA256 == "" { // aws/aws-sdk-php#2648
			return &Refusal{400, "InvalidRequest",
				fmt.Sprintf("The upload was created using a sha256 checksum. The complete request "+
					"must include the checksum for each part. It was missing for part %d in the "+
					"request.", p.PartNumber), ""}
		}
		if i < len(list.Part)-1 && len(have.data) < 5<<20 {
			return &Refusal{400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", ""}
		}
		data = append(data, have.data...)
		sums = append(sums, sum[:]...)
	}
	all := md5.Sum(sums)
	etag := fmt.Sprintf("%s-%d", hex.EncodeToString(all[:]), len(list.Part))
	s.store(w, u.key, data, u.header, etag)
	delete(s.uploads, id)
	_, _ = fmt.Fprintf(w, "<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><ETag>&quot;%s&quot;</ETag>"+
		"</CompleteMultipartUploadResult>", s.Bucket, u.key, etag)
	return nil
}

func (s *Strict) listUploads(w http.ResponseWriter, prefix string) *Refusal {
	_, _ = io.WriteString(w, "<ListMultipartUploadsResult>")
	for id, u := range s.uploads {
		if strings.HasPrefix(u.key, prefix) {
			_, _ = fmt.Fprintf(w, "<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>", u.key, id)
		}
	}
	_, _ = io.WriteString(w, "</ListMultipartUploadsResult>")
	return nil
}
