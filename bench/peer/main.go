// A small REST service that stores the same events in the same tables as Idem, with gin and pgx: one statement
// for a create, one for a batch, and one for a page. The benchmark compares Idem with it.
//
// It does what such a service needs at least: it verifies the token, validates the input, gives each event a
// position in the feed of its user, and answers an event that is sent again with the stored one. It has no
// change feed, no aliases, no versions and no imports.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

type event struct {
	ID          string          `json:"id" binding:"required,uuid"`
	EventTypeID string          `json:"eventTypeId" binding:"required,uuid"`
	Timestamp   time.Time       `json:"timestamp" binding:"required"`
	EndDate     *time.Time      `json:"endDate"`
	IsAllDay    bool            `json:"isAllDay"`
	TimeZone    *string         `json:"timeZone" binding:"omitempty,max=64"`
	Notes       *string         `json:"notes" binding:"omitempty,max=10000"`
	SourceType  string          `json:"sourceType" binding:"omitempty,max=32"`
	ExternalID  *string         `json:"externalId" binding:"omitempty,max=255"`
	Latitude    *float64        `json:"latitude" binding:"omitempty,latitude"`
	Longitude   *float64        `json:"longitude" binding:"omitempty,longitude"`
	Location    *string         `json:"locationName" binding:"omitempty,max=255"`
	Properties  json.RawMessage `json:"properties"`
	Version     int             `json:"version"`
	CreatedAt   time.Time       `json:"createdAt"`
	UpdatedAt   time.Time       `json:"updatedAt"`
}

type answer struct {
	Outcome string `json:"outcome"`
	Differs bool   `json:"differs"`
	Event   event  `json:"event"`
}

// The statement of a create. A known event is found by its id or by its external id, and moves nothing.
const create = `
WITH known AS MATERIALIZED (
  SELECT * FROM event WHERE user_id = $1 AND id = $2
  UNION
  SELECT * FROM event WHERE user_id = $1 AND source_type = $9 AND external_id = $10),
head AS (
  UPDATE account SET feed_head = feed_head + 1, revision = revision + 1
  WHERE user_id = $1 AND NOT EXISTS (SELECT FROM known)
  AND EXISTS (SELECT FROM event_type WHERE user_id = $1 AND id = $3 AND deleted_at IS NULL)
  RETURNING feed_head),
stored AS (
  INSERT INTO event (user_id, id, event_type_id, "timestamp", end_date, is_all_day, time_zone, notes, notes_search,
    source_type, external_id, latitude, longitude, location_name, properties, content_hash, version, change_seq,
    writer_run_start, created_at, updated_at)
  SELECT $1, $2, $3, $4, $5, $6, $7, $8, lower($8), $9, $10, $11, $12, $13, $14, $15, 1, feed_head, 1, $16, $16
  FROM head
  ON CONFLICT DO NOTHING RETURNING *)
SELECT true, ` + columns + ` FROM stored UNION ALL SELECT false, ` + columns + ` FROM known LIMIT 1`

const columns = `id::text, event_type_id::text, "timestamp", end_date, is_all_day, time_zone, notes, source_type,
  external_id, latitude, longitude, location_name, properties, version, created_at, updated_at, content_hash`

// The statement of a batch: the same for arrays. It returns the ids of the events that it has stored.
const createMany = `
WITH sent AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::bytea[]) WITH ORDINALITY
  AS s(id, event_type_id, "timestamp", time_zone, notes, source_type, external_id, properties, content_hash, n)),
fresh AS MATERIALIZED (
  SELECT s.*, row_number() OVER (ORDER BY s.n) AS position FROM sent s
  WHERE NOT EXISTS (SELECT FROM event e WHERE e.user_id = $1 AND e.id = s.id)
  AND NOT EXISTS (SELECT FROM event e WHERE e.user_id = $1 AND e.source_type = s.source_type
    AND e.external_id = s.external_id)
  AND EXISTS (SELECT FROM event_type t WHERE t.user_id = $1 AND t.id = s.event_type_id AND t.deleted_at IS NULL)),
head AS (
  UPDATE account SET feed_head = feed_head + (SELECT count(*) FROM fresh), revision = revision + 1
  WHERE user_id = $1 AND EXISTS (SELECT FROM fresh) RETURNING feed_head)
INSERT INTO event (user_id, id, event_type_id, "timestamp", is_all_day, time_zone, notes, notes_search, source_type,
  external_id, properties, content_hash, version, change_seq, writer_run_start, created_at, updated_at)
SELECT $1, s.id, s.event_type_id, s."timestamp", false, s.time_zone, s.notes, lower(s.notes), s.source_type,
  s.external_id, s.properties, s.content_hash, 1, h.feed_head - (SELECT count(*) FROM fresh) + s.position, 1, $11, $11
FROM fresh s CROSS JOIN head h
ON CONFLICT DO NOTHING RETURNING id::text`

const pageByTime = `SELECT ` + columns + ` FROM event
WHERE user_id = $1 AND deleted_at IS NULL AND "timestamp" IS NOT NULL ORDER BY "timestamp" DESC, id DESC LIMIT $2`

const pageByType = `SELECT ` + columns + ` FROM event
WHERE user_id = $1 AND event_type_id = $3 AND deleted_at IS NULL ORDER BY "timestamp" DESC, id DESC LIMIT $2`

type service struct {
	pool   *pgxpool.Pool
	secret []byte
	issuer string
	users  sync.Map
}

func main() {
	gin.SetMode(gin.ReleaseMode)
	pool, err := pgxpool.Connect(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	s := &service{pool: pool, secret: []byte(os.Getenv("SECRET")), issuer: os.Getenv("ISSUER")}
	router := gin.New()
	router.Use(gin.Recovery(), s.authenticate)
	router.POST("/events", s.create)
	router.POST("/events/batch", s.createMany)
	router.GET("/events", s.page)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	// The benchmark reads the address.
	os.Stdout.WriteString(listener.Addr().String() + "\n")
	log.Fatal(http.Serve(listener, router))
}

// authenticate verifies the token (JWT, HS256) and finds the user of its subject.
func (s *service) authenticate(c *gin.Context) {
	token := strings.TrimPrefix(c.GetHeader("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		c.AbortWithStatus(http.StatusUnauthorized)
		return
	}
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, mac.Sum(nil)) {
		c.AbortWithStatus(http.StatusUnauthorized)
		return
	}
	var claims struct {
		Subject string `json:"sub"`
		Expires int64  `json:"exp"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Expires < time.Now().Unix() {
		c.AbortWithStatus(http.StatusUnauthorized)
		return
	}
	user, known := s.users.Load(claims.Subject)
	if !known {
		var id string
		find := "SELECT user_id::text FROM account WHERE issuer = $1 AND subject = $2"
		if s.pool.QueryRow(c, find, s.issuer, claims.Subject).Scan(&id) != nil {
			c.AbortWithStatus(http.StatusUnauthorized)
			return
		}
		s.users.Store(claims.Subject, id)
		user = id
	}
	c.Set("user", user.(string))
}

// prepare checks what the tags cannot express, and returns the hash of the content.
func (e *event) prepare(now time.Time) ([]byte, error) {
	if e.Timestamp.After(now.Add(time.Minute)) {
		return nil, errors.New("the timestamp is in the future")
	}
	if e.EndDate != nil && e.EndDate.Before(e.Timestamp) {
		return nil, errors.New("the event ends before it begins")
	}
	if e.SourceType == "" {
		e.SourceType = "manual"
	}
	if len(e.Properties) == 0 {
		e.Properties = json.RawMessage("{}")
	}
	if len(e.Properties) > 16384 {
		return nil, errors.New("the properties are too long")
	}
	text := func(of *string) string {
		if of == nil {
			return ""
		}
		return *of
	}
	content := sha256.New()
	for _, part := range []string{e.EventTypeID, e.Timestamp.UTC().String(), text(e.TimeZone), text(e.Notes),
		text(e.ExternalID), string(e.Properties)} {
		content.Write([]byte(part))
		content.Write([]byte{0})
	}
	return content.Sum(nil), nil
}

// respond sends JSON with its length, which the load generator needs.
func respond(c *gin.Context, status int, body interface{}) {
	text, err := json.Marshal(body)
	if err != nil {
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.Header("Content-Length", strconv.Itoa(len(text)))
	c.Data(status, "application/json; charset=utf-8", text)
}

func ms(at *time.Time) *int64 {
	if at == nil {
		return nil
	}
	value := at.UnixMilli()
	return &value
}

func (s *service) create(c *gin.Context) {
	var e event
	if err := c.ShouldBindJSON(&e); err != nil {
		respond(c, http.StatusBadRequest, gin.H{"error": err.Error()})
		return
	}
	now := time.Now()
	hash, err := e.prepare(now)
	if err != nil {
		respond(c, http.StatusUnprocessableEntity, gin.H{"error": err.Error()})
		return
	}
	row := s.pool.QueryRow(c, create, c.GetString("user"), e.ID, e.EventTypeID, e.Timestamp.UnixMilli(),
		ms(e.EndDate), e.IsAllDay, e.TimeZone, e.Notes, e.SourceType, e.ExternalID, e.Latitude, e.Longitude,
		e.Location, string(e.Properties), hash, now.UnixMilli())
	var isNew bool
	var stored event
	storedHash, err := stored.scan(row, &isNew)
	if errors.Is(err, pgx.ErrNoRows) {
		respond(c, http.StatusUnprocessableEntity, gin.H{"error": "the event type does not exist"})
		return
	}
	if err != nil {
		respond(c, http.StatusInternalServerError, gin.H{"error": "the database failed"})
		return
	}
	if isNew {
		respond(c, http.StatusOK, answer{Outcome: "CREATED", Event: stored})
		return
	}
	respond(c, http.StatusOK, answer{"DUPLICATE", !hmac.Equal(hash, storedHash), stored})
}

func (s *service) createMany(c *gin.Context) {
	var body struct {
		Events []event `json:"events" binding:"required,max=500,dive"`
	}
	if err := c.ShouldBindJSON(&body); err != nil {
		respond(c, http.StatusBadRequest, gin.H{"error": err.Error()})
		return
	}
	now := time.Now()
	count := len(body.Events)
	ids, types, times := make([]string, count), make([]string, count), make([]int64, count)
	zones, notes, externals := make([]*string, count), make([]*string, count), make([]*string, count)
	sources, properties, hashes := make([]string, count), make([]string, count), make([][]byte, count)
	for i := range body.Events {
		e := &body.Events[i]
		hash, err := e.prepare(now)
		if err != nil {
			respond(c, http.StatusUnprocessableEntity, gin.H{"index": i, "error": err.Error()})
			return
		}
		ids[i], types[i], times[i] = e.ID, e.EventTypeID, e.Timestamp.UnixMilli()
		zones[i], notes[i], externals[i] = e.TimeZone, e.Notes, e.ExternalID
		sources[i], properties[i], hashes[i] = e.SourceType, string(e.Properties), hash
	}
	rows, err := s.pool.Query(c, createMany, c.GetString("user"), ids, types, times, zones, notes, sources,
		externals, properties, hashes, now.UnixMilli())
	if err != nil {
		respond(c, http.StatusInternalServerError, gin.H{"error": "the database failed"})
		return
	}
	created := make(map[string]bool, count)
	for rows.Next() {
		var id string
		if rows.Scan(&id) == nil {
			created[id] = true
		}
	}
	if rows.Err() != nil {
		respond(c, http.StatusInternalServerError, gin.H{"error": "the database failed"})
		return
	}
	type result struct {
		Index   int    `json:"index"`
		Outcome string `json:"outcome"`
	}
	results := make([]result, count)
	for i, id := range ids {
		results[i] = result{i, "DUPLICATE"}
		if created[id] {
			results[i].Outcome = "CREATED"
		}
	}
	respond(c, http.StatusOK, gin.H{"created": len(created), "duplicates": count - len(created), "results": results})
}

func (s *service) page(c *gin.Context) {
	const first = 50
	query, arguments := pageByTime, []interface{}{c.GetString("user"), first + 1}
	if eventType := c.Query("eventTypeId"); eventType != "" {
		query, arguments = pageByType, append(arguments, eventType)
	}
	rows, err := s.pool.Query(c, query, arguments...)
	if err != nil {
		respond(c, http.StatusInternalServerError, gin.H{"error": "the database failed"})
		return
	}
	defer rows.Close()
	nodes := make([]event, 0, first+1)
	for rows.Next() {
		var e event
		if _, err := e.scan(rows); err != nil {
			respond(c, http.StatusInternalServerError, gin.H{"error": "the database failed"})
			return
		}
		nodes = append(nodes, e)
	}
	hasNext := len(nodes) > first
	if hasNext {
		nodes = nodes[:first]
	}
	respond(c, http.StatusOK, gin.H{"nodes": nodes, "hasNextPage": hasNext})
}

// scan reads the columns of an event, after those that `before` takes, and returns the hash of its content.
func (e *event) scan(row pgx.Row, before ...interface{}) ([]byte, error) {
	var at, createdAt, updatedAt int64
	var endDate *int64
	var properties string
	var hash []byte
	err := row.Scan(append(before, &e.ID, &e.EventTypeID, &at, &endDate, &e.IsAllDay, &e.TimeZone, &e.Notes,
		&e.SourceType, &e.ExternalID, &e.Latitude, &e.Longitude, &e.Location, &properties, &e.Version, &createdAt,
		&updatedAt, &hash)...)
	if err != nil {
		return nil, err
	}
	e.Timestamp, e.Properties = time.UnixMilli(at).UTC(), json.RawMessage(properties)
	e.CreatedAt, e.UpdatedAt = time.UnixMilli(createdAt).UTC(), time.UnixMilli(updatedAt).UTC()
	if endDate != nil {
		end := time.UnixMilli(*endDate).UTC()
		e.EndDate = &end
	}
	return hash, nil
}
