//! Chromium without a window, driven by `chromedriver` over WebDriver: as much of that protocol as the tests need.
//!
//! What a test does goes the way of a person: elements are scrolled to, have to be visible and not covered, and get real clicks
//! and key strokes.
//!
//! The crates for WebDriver bring some thirty to forty packages more, another HTTP client and another copy of what is here already
//! among them. What the tests need are a dozen requests with JSON in them, which the testkit's own HTTP carries.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use vaylix_testkit::process::{PATIENCE, Process};
use vaylix_testkit::{http, wait};

/// What `chromedriver --port=0` says before the port that it has found.
const STARTED: &str = "started successfully on port ";

/// The name of a reference to an element in the JSON of WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How the window looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) name: &'static str,
    width: u32,
    height: u32,
    is_dark: bool,
}

impl Look {
    pub(crate) const LIGHT: Self = Self { name: "light", width: 1360, height: 900, is_dark: false };
    pub(crate) const DARK: Self = Self { name: "dark", width: 1360, height: 900, is_dark: true };
    pub(crate) const NARROW: Self = Self { name: "narrow", width: 390, height: 844, is_dark: false };
}

/// A browser with a profile of its own. Ends with its handle.
pub(crate) struct Browser {
    driver: SocketAddr,
    /// The path of the session.
    session: String,
    profile: TempDir,
    // Behind the profile: it ends after the browser has.
    _process: Process,
}

impl Browser {
    /// Starts a browser that looks [`Look::LIGHT`].
    pub(crate) fn start() -> Self {
        Self::try_start().unwrap_or_else(|error| panic!("Debian: chromium, chromium-driver: {error:#}"))
    }

    fn try_start() -> Result<Self> {
        let mut command = Command::new("chromedriver");
        let process = Process::spawn({
            command.arg("--port=0").stdin(Stdio::null());
            command
        })?;
        let port = loop {
            let line = process.next_line()?.context("chromedriver ended before it was ready")?;
            if let Some((_, rest)) = line.split_once(STARTED) {
                break rest.trim_end_matches('.').parse()?;
            }
        };
        let driver = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let profile = TempDir::new()?;
        std::fs::create_dir(profile.path().join("downloads"))?;
        let options = json!({
            "args": [
                "--headless=new",
                // Containers run it as root, and have little shared memory.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--no-first-run",
                "--hide-scrollbars",
                "--disable-background-networking",
                "--disable-component-update",
                format!("--user-data-dir={}", profile.path().join("profile").display()),
            ],
            "prefs": {
                "download.default_directory": profile.path().join("downloads"),
                "credentials_enable_service": false,
            },
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
            "unhandledPromptBehavior": "ignore",
        } } });
        let started = ask(driver, "POST", "/session", Some(&wanted))?;
        let id = started["sessionId"].as_str().context("no session")?;
        let browser = Self { driver, session: format!("/session/{id}"), profile, _process: process };
        browser.looks(Look::LIGHT);
        Ok(browser)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        ask(self.driver, method, &format!("{}{path}", self.session), body)
    }

    /// A command of Chromium's own protocol.
    pub(crate) fn chromium(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.call("POST", "/goog/cdp/execute", Some(&body)).unwrap()
    }

    /// Gives the window a size and the system a theme.
    pub(crate) fn looks(&self, look: Look) {
        let size =
            json!({ "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": false });
        self.chromium("Emulation.setDeviceMetricsOverride", &size);
        let theme = if look.is_dark { "dark" } else { "light" };
        let theme = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.chromium("Emulation.setEmulatedMedia", &theme);
    }

    /// Opens an address and waits until it is loaded.
    pub(crate) fn open(&self, url: &str) {
        self.call("POST", "/url", Some(&json!({ "url": url }))).unwrap();
    }

    /// Goes to a place within the page.
    pub(crate) fn route(&self, hash: &str) {
        self.script("location.hash = arguments[0]", &[json!(hash)]);
    }

    /// Runs a function's body in the page; what it returns.
    pub(crate) fn script(&self, body: &str, arguments: &[Value]) -> Value {
        self.try_script(body, arguments).unwrap()
    }

    fn try_script(&self, body: &str, arguments: &[Value]) -> Result<Value> {
        self.call("POST", "/execute/sync", Some(&json!({ "script": body, "args": arguments })))
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, expression: &str) {
        self.until_within(what, PATIENCE, expression);
    }

    /// The same, no longer than this.
    #[track_caller]
    pub(crate) fn until_within(&self, what: &str, patience: Duration, expression: &str) {
        let body = format!("return Boolean({expression})");
        // While a page is exchanged there may be nothing to look into.
        let found =
            wait::within(what, patience, || (self.try_script(&body, &[]).ok()? == true).then_some(()));
        if let Err(error) = found {
            self.keep(&format!("failed: {what}"));
            panic!("{error}; the page says: {}", self.body());
        }
    }

    /// Waits for an element.
    #[track_caller]
    pub(crate) fn await_element(&self, selector: &str) {
        self.until(selector, &format!("document.querySelector({})", json!(selector)));
    }

    /// Waits until no element matches.
    #[track_caller]
    pub(crate) fn await_none(&self, selector: &str) {
        self.until(&format!("no {selector}"), &format!("!document.querySelector({})", json!(selector)));
    }

    /// Waits until an element contains a text.
    #[track_caller]
    pub(crate) fn await_text(&self, selector: &str, text: &str) {
        let expression =
            format!("document.querySelector({})?.textContent.includes({})", json!(selector), json!(text));
        self.until(&format!("{selector} says {text:?}"), &expression);
    }

    /// Clicks on an element as soon as that is possible.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        self.with_element(selector, "click", &json!({}));
    }

    /// Types a text in place of what a field has.
    #[track_caller]
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        self.with_element(selector, "clear", &json!({}));
        self.with_element(selector, "value", &json!({ "text": text }));
    }

    /// Chooses a file to be sent.
    #[track_caller]
    pub(crate) fn choose_file(&self, selector: &str, file: &Path) {
        self.with_element(selector, "value", &json!({ "text": file }));
    }

    #[track_caller]
    fn with_element(&self, selector: &str, action: &str, body: &Value) {
        let mut last = None;
        let done = wait::within(&format!("{action} on {selector}"), PATIENCE, || {
            let attempt = self.try_with_element(selector, action, body);
            attempt.inspect_err(|error| last = Some(format!("{error:#}"))).ok()
        });
        if let Err(error) = done {
            self.keep(&format!("failed: {action} {selector}"));
            panic!("{error}: {}; the page says: {}", last.unwrap_or_default(), self.body());
        }
    }

    fn try_with_element(&self, selector: &str, action: &str, body: &Value) -> Result<()> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.call("POST", "/element", Some(&wanted))?;
        let id = found[ELEMENT].as_str().context("no element")?;
        self.call("POST", &format!("/element/{id}/{action}"), Some(body))?;
        Ok(())
    }

    /// The text of an element; empty when there is none.
    pub(crate) fn text(&self, selector: &str) -> String {
        let found =
            self.script("return document.querySelector(arguments[0])?.textContent ?? ''", &[json!(selector)]);
        found.as_str().unwrap_or_default().to_owned()
    }

    fn body(&self) -> String {
        let body = self.try_script("return document.body.innerText", &[]);
        body.map_or_else(|error| error.to_string(), |text| text.as_str().unwrap_or_default().to_owned())
    }

    /// What the browser has complained about since the last time: errors of scripts, refused by the policy, failed to load.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", Some(&json!({ "type": "browser" }))).unwrap();
        let severe = log.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A file that was downloaded, as soon as it is complete.
    #[track_caller]
    pub(crate) fn downloaded(&self, name: &str) -> PathBuf {
        let path = self.profile.path().join("downloads").join(name);
        // It has this name when it is complete.
        wait::until(&format!("{name} is downloaded"), || path.is_file().then(|| path.clone()))
    }

    /// Puts the window where nobody sees it.
    pub(crate) fn minimize(&self) {
        self.call("POST", "/window/minimize", Some(&json!({}))).unwrap();
    }

    /// Brings it back.
    pub(crate) fn restore(&self) {
        self.call("POST", "/window/rect", Some(&json!({ "width": 1360, "height": 900 }))).unwrap();
    }

    /// Writes a picture of the page, all of its height, to `console/NAME.png` in Cargo's target directory.
    pub(crate) fn keep(&self, name: &str) {
        let picture = self.chromium("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        let name: String =
            name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("console");
        std::fs::create_dir_all(&folder).unwrap();
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; the driver is ended by its process id.
        if let Err(error) = self.call("DELETE", "", None) {
            println!("the browser was not ended: {error:#}");
        }
    }
}

/// Asks the driver; what it says.
fn ask(driver: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let headers = [("content-type", "application/json; charset=utf-8")];
    let answer = http::request(driver, method, path, &headers, body.as_bytes())?;
    let mut told: Value = serde_json::from_slice(&answer.body).context("the driver answers no JSON")?;
    let value = told["value"].take();
    if answer.status != 200 {
        bail!("{method} {path}: {}: {}", value["error"], value["message"]);
    }
    Ok(value)
}
