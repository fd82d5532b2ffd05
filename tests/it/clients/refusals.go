// URL METHOD PATH BYTES TIMES CHUNKED HEADER…: how often each status came
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	url, method, path, chunked := os.Args[1], os.Args[2], os.Args[3], os.Args[6] == "chunked"
	size, _ := strconv.Atoi(os.Args[4])
	times, _ := strconv.Atoi(os.Args[5])
	seen := map[string]int{}
	for range make([]int, times) {
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			ForceAttemptHTTP2: os.Getenv("HTTP1") == "",
		}
		client := &http.Client{Transport: transport, Timeout: 60 * time.Second}
		request, _ := http.NewRequest(method, url+path, io.NopCloser(bytes.NewReader(make([]byte, size))))
		request.ContentLength = int64(size)
		if chunked {
			request.ContentLength = -1
		}
		for _, header := range os.Args[7:] {
			pair := strings.SplitN(header, ": ", 2)
			request.Header.Set(pair[0], pair[1])
		}
		answer := "no body"
		if response, err := client.Do(request); err != nil {
			answer = err.Error()
		} else {
			if body, err := io.ReadAll(response.Body); err == nil && len(body) > 0 {
				answer = strconv.Itoa(response.StatusCode)
			}
			response.Body.Close()
		}
		seen[answer]++
		transport.CloseIdleConnections()
	}
	json.NewEncoder(os.Stdout).Encode(seen)
}
