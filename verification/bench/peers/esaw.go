package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// esawTimeout is the timeout for one request to eSAW, as in verification/bench/plain_script.py.
const esawTimeout = 30 * time.Second

// esawClient makes the calls to eSAW, as one sender.
type esawClient struct {
	base  string
	token string
	http  *http.Client
}

// newEsawClient returns a client that keeps this number of connections.
func newEsawClient(url, token string, connections int) *esawClient {
	return &esawClient{
		base:  url + "/Api/v6/",
		token: token,
		http: &http.Client{
			Timeout: esawTimeout,
			Transport: &http.Transport{
				MaxIdleConns:        connections,
				MaxIdleConnsPerHost: connections,
				DisableCompression:  true,
			},
		},
	}
}

// envelopeFiles is eSAW's list of the files of an envelope.
type envelopeFiles struct {
	Documents []struct {
		FileID   string `json:"FileId"`
		FileName string
	}
	AuditTrail struct {
		FileID    string `json:"FileId"`
		XMLFileID string `json:"XmlFileId"`
	}
}

// list returns the files as they are archived, for envelopes as the bench makes them.
func (files *envelopeFiles) list() []FiledDocument {
	var listed []FiledDocument
	for _, each := range files.Documents {
		listed = append(listed, FiledDocument{FileID: each.FileID, Kind: "Document", FileName: each.FileName})
	}
	trail := files.AuditTrail
	return append(listed,
		FiledDocument{FileID: trail.FileID, Kind: "AuditTrail", FileName: "audit-trail.pdf"},
		FiledDocument{FileID: trail.XMLFileID, Kind: "AuditTrailXml", FileName: "audit-trail.xml"},
	)
}

// get decodes the JSON of an answer into found.
func (esaw *esawClient) get(ctx context.Context, path string, found any) error {
	content, err := esaw.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, found)
}

// download returns the bytes of a file.
func (esaw *esawClient) download(ctx context.Context, fileID string) ([]byte, error) {
	return esaw.request(ctx, http.MethodGet, "file/"+fileID, nil)
}

// delete deletes an envelope.
func (esaw *esawClient) delete(ctx context.Context, envelope string) error {
	body, err := json.Marshal(map[string]string{"EnvelopeId": envelope})
	if err != nil {
		return err
	}
	_, err = esaw.request(ctx, http.MethodPost, "envelope/delete", body)
	return err
}

// request returns the body of an answer; every status but a success is an error.
func (esaw *esawClient) request(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, esaw.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+esaw.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := esaw.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("eSAW answered %s %s with %s", method, path, answer.Status)
	}
	return content, nil
}
