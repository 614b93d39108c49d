import './styles/tokens.css';
import './styles/base.css';
import './styles/prose.css';
import { mount } from 'svelte';
import App from './App.svelte';
import { keepShell } from './lib/app.svelte';
import { applyLanguage } from './lib/i18n.svelte';
import { applyTheme } from './lib/settings.svelte';

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no #app');

applyTheme();
// The first words on the screen are already in the person's language.
await applyLanguage();
mount(App, { target });
keepShell();
