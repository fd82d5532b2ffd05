// A registry client as Go programs are: net/http, which speaks HTTP/2 over TLS, and docker's rules for credentials.
//
// docker asks /v2/ once. Without a challenge there it never sends credentials. With a challenge for a token it fetches
// one for each operation, without credentials if it has none. With a challenge for a password it gives up if it has
// none. crane and other programs follow the same rules, or less strict ones.
//
// usage: registry_client URL login | push REPOSITORY TAG | pull REPOSITORY TAG
// REGISTRY_USER and REGISTRY_PASSWORD are the credentials. The last line of output names the protocol that was spoken.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

const (
	agent        = "docker/27.3.1 go/go1.22.7 UpstreamClient(Docker-Client/27.3.1)"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

type client struct {
	http           *http.Client
	base           string
	user, password string
	scheme         string
	challenge      map[string]string
	protocol       string
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

func describe(mediaType string, content []byte) descriptor {
	return descriptor{mediaType, fmt.Sprintf("sha256:%x", sha256.Sum256(content)), len(content)}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

// Sends a request and returns the response with its whole body.
func (c *client) send(request *http.Request) (*http.Response, []byte) {
	request.Header.Set("User-Agent", agent)
	response, err := c.http.Do(request)
	if err != nil {
		fail("%s %s: %v", request.Method, request.URL, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		fail("%s %s: %v", request.Method, request.URL, err)
	}
	c.protocol = response.Proto
	return response, body
}

func request(method, address string, body []byte) *http.Request {
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		fail("%v", err)
	}
	return request
}

// Learns how the registry wants to be asked.
func (c *client) ping() {
	response, _ := c.send(request("GET", c.base+"/v2/", nil))
	if response.StatusCode == http.StatusOK {
		return
	}
	if response.StatusCode != http.StatusUnauthorized {
		fail("GET /v2/: %s", response.Status)
	}
	header := response.Header.Get("WWW-Authenticate")
	scheme, parameters, _ := strings.Cut(header, " ")
	c.scheme, c.challenge = strings.ToLower(scheme), map[string]string{}
	for _, pair := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(parameters, -1) {
		c.challenge[pair[1]] = pair[2]
	}
}

// Adds to a request what the challenge wants.
func (c *client) authorize(request *http.Request, scope string) {
	switch c.scheme {
	case "":
	case "basic":
		if c.user == "" {
			fail("no basic auth credentials")
		}
		request.SetBasicAuth(c.user, c.password)
	case "bearer":
		request.Header.Set("Authorization", "Bearer "+c.token(scope))
	default:
		fail("unknown challenge %q", c.scheme)
	}
}

func (c *client) token(scope string) string {
	query := url.Values{"service": {c.challenge["service"]}}
	if scope != "" {
		query.Set("scope", scope)
	}
	if c.user != "" {
		query.Set("account", c.user)
	}
	asked, err := http.NewRequest("GET", c.challenge["realm"]+"?"+query.Encode(), nil)
	if err != nil {
		fail("%v", err)
	}
	if c.user != "" {
		asked.SetBasicAuth(c.user, c.password)
	}
	response, body := c.send(asked)
	if response.StatusCode != http.StatusOK {
		fail("unauthorized: the token service says %s %s", response.Status, body)
	}
	var answer struct{ Token string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Token == "" {
		fail("no token in %s", body)
	}
	return answer.Token
}

// Sends a request for an operation, whose status must be one of these.
func (c *client) do(method, address, scope string, body []byte, mediaType string, statuses ...int) (*http.Response, []byte) {
	asked := request(method, address, body)
	if mediaType != "" {
		asked.Header.Set("Content-Type", mediaType)
	}
	asked.Header.Set("Accept", manifestType)
	c.authorize(asked, scope)
	response, said := c.send(asked)
	for _, status := range statuses {
		if response.StatusCode == status {
			return response, said
		}
	}
	fail("%s %s: %s %s", method, address, response.Status, said)
	return nil, nil
}

func (c *client) login() {
	asked := request("GET", c.base+"/v2/", nil)
	c.authorize(asked, "")
	response, body := c.send(asked)
	if response.StatusCode != http.StatusOK {
		fail("unauthorized: %s %s", response.Status, body)
	}
}

func (c *client) push(repository, tag string) {
	scope := "repository:" + repository + ":push,pull"
	at := c.base + "/v2/" + repository
	config, layer := []byte(`{"architecture":"amd64","os":"linux"}`), []byte("a layer of "+repository+":"+tag)
	for _, blob := range [][]byte{config, layer} {
		digest := describe("", blob).Digest
		if found, _ := c.do("HEAD", at+"/blobs/"+digest, scope, nil, "", 200, 404); found.StatusCode == 200 {
			continue
		}
		started, _ := c.do("POST", at+"/blobs/uploads/", scope, nil, "", 202)
		location, err := started.Location()
		if err != nil {
			fail("%v", err)
		}
		if there, asked := location.Scheme+"://"+location.Host, c.base; there != asked {
			fail("the registry at %s calls itself %s", asked, there)
		}
		query := location.Query()
		query.Set("digest", digest)
		location.RawQuery = query.Encode()
		c.do("PUT", location.String(), scope, blob, "application/octet-stream", 201)
	}
	made, err := json.Marshal(manifest{2, manifestType, describe(configType, config), []descriptor{describe(layerType, layer)}})
	if err != nil {
		fail("%v", err)
	}
	c.do("PUT", at+"/manifests/"+tag, scope, made, manifestType, 201)
}

func (c *client) pull(repository, tag string) {
	scope := "repository:" + repository + ":pull"
	at := c.base + "/v2/" + repository
	head, _ := c.do("HEAD", at+"/manifests/"+tag, scope, nil, "", 200)
	_, body := c.do("GET", at+"/manifests/"+tag, scope, nil, "", 200)
	if digest := describe("", body).Digest; digest != head.Header.Get("Docker-Content-Digest") {
		fail("the manifest has the digest %s", digest)
	}
	var pulled manifest
	if err := json.Unmarshal(body, &pulled); err != nil {
		fail("%v", err)
	}
	for _, part := range append(pulled.Layers, pulled.Config) {
		_, blob := c.do("GET", at+"/blobs/"+part.Digest, scope, nil, "", 200)
		if got := describe(part.MediaType, blob); got != part {
			fail("wanted %v, got %v", part, got)
		}
	}
}

func main() {
	c := &client{
		http: &http.Client{Timeout: time.Minute},
		base: os.Args[1],
		user: os.Getenv("REGISTRY_USER"), password: os.Getenv("REGISTRY_PASSWORD"),
	}
	c.ping()
	switch arguments := os.Args[2:]; arguments[0] {
	case "login":
		c.login()
	case "push":
		c.push(arguments[1], arguments[2])
	case "pull":
		c.pull(arguments[1], arguments[2])
	default:
		fail("unknown command %s", arguments[0])
	}
	fmt.Println(c.protocol)
}
